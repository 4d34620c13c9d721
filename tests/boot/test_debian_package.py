# SPDX-License-Identifier: GPL-2.0-only
"""The Debian package: built, installed and used in a Debian that has nothing of this machine's."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from debian_disk import MIB, ROOT, debian_disk

from bsync import __version__

CHECKOUT = Path(__file__).resolve().parents[2]

# What is mounted is unmounted, and what runs is ended, with the namespaces.
OUTSIDE = f"""
set -eu
dd if="$1" of=root.img bs={MIB} skip={ROOT.start // MIB} count={ROOT.size // MIB} \\
    conv=sparse status=none
truncate --size 3G root.img
resize2fs root.img
mkdir root
mount -o loop root.img root
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
mount --bind /dev root/dev
cp --dereference /etc/resolv.conf root/etc/
cp -R package root/root/
exec chroot root sh /root/package/inside
"""

# No package here outlives the test, so none is synced to the disk; compilers, which apt takes every
# build to need, are left out; and what a build machine tests is tested here anyway.
INSIDE = """
set -eu
cat >/etc/apt/apt.conf.d/test <<END
#clear APT::Build-Essential;
APT::Install-Recommends "false";
Acquire::Languages "none";
Acquire::Retries "3";
Dpkg::Options { "--force-unsafe-io"; };
END
echo 'man-db man-db/auto-update boolean false' | debconf-set-selections
cd /root/package/bsync
apt-get update --quiet=2
apt-get build-dep --quiet=2 --yes --build-profiles=nocheck ./
dpkg-checkbuilddeps -I -P nocheck
dpkg-buildpackage --no-check-builddeps --build=binary --build-profiles=nocheck -us -uc
apt-get install --quiet=2 --yes ../bsync_*_all.deb
mkdir /root/use
AUTOPKGTEST_TMP=/root/use debian/tests/clone
bsync --version
"""


def test_it_is_built_installed_and_used_in_a_clean_debian(tmp_path: Path) -> None:
    package = tmp_path / "package"
    (package / "bsync").mkdir(parents=True)
    (package / "inside").write_text(INSIDE)
    git = f"git -c safe.directory='{CHECKOUT}' ls-files -z --cached --others --exclude-standard"
    copy = f"{git} | tar --null --files-from=- --ignore-failed-read --create"
    subprocess.run(
        f"{copy} | tar --extract --directory='{package}/bsync'",
        cwd=CHECKOUT,
        shell=True,
        check=True,
    )
    environment = {
        key: value for key, value in os.environ.items() if key.endswith("_proxy") or key == "HOME"
    }
    environment |= {"PATH": os.defpath + ":/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}
    environment |= {"DEBIAN_FRONTEND": "noninteractive"}
    namespaces = ("unshare", "--mount", "--pid", "--fork", "--kill-child")
    run = subprocess.run(
        [*namespaces, "sh", "-c", OUTSIDE, "sh", debian_disk()], cwd=tmp_path, env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stdout
    assert run.stdout.splitlines()[-1] == f"bsync {__version__}"
    (tmp_path / "root.img").unlink()
