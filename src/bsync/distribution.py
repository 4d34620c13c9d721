# SPDX-License-Identifier: GPL-2.0-only
"""What the packages are called in the distribution at hand, for the hint when one is missing."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection
from pathlib import Path

_FILES = (Path("/etc/os-release"), Path("/usr/lib/os-release"))
_COMMANDS = {
    "debian": "apt-get install", "fedora": "dnf install", "suse": "zypper install",
    "arch": "pacman -S",
}  # fmt: skip
# What ID and ID_LIKE say, for those that do not name one of the above.
_FAMILIES = {"ubuntu": "debian", "rhel": "fedora", "centos": "fedora"}
# The program or library, and its package in Debian; in others where they differ.
_DEBIAN = {
    "rsync": "rsync", "mke2fs": "e2fsprogs", "tune2fs": "e2fsprogs", "e2fsck": "e2fsprogs",
    "debugfs": "e2fsprogs", "resize2fs": "e2fsprogs", "mkreiserfs": "reiserfsprogs",
    "reiserfstune": "reiserfsprogs", "reiserfsck": "reiserfsprogs", "mkfs.xfs": "xfsprogs",
    "xfs_repair": "xfsprogs", "xfs_growfs": "xfsprogs", "xfs_db": "xfsprogs",
    "sfdisk": "fdisk", "blkid": "util-linux", "wipefs": "util-linux", "mkswap": "util-linux",
    "blkdiscard": "util-linux",
    "lsblk": "util-linux", "losetup": "mount", "mount": "mount", "umount": "mount",
    "qemu-storage-daemon": "qemu-system-common",
    "setpriv": "util-linux", "lvs": "lvm2", "lvcreate": "lvm2", "iscsiadm": "open-iscsi",
    "libiscsi": "libiscsi7", "qemu-iscsi": "qemu-block-extra",
}  # fmt: skip
_ELSEWHERE = {"fdisk": "util-linux", "mount": "util-linux", "libiscsi7": "libiscsi",
              "qemu-block-extra": "qemu-block-iscsi"}  # fmt: skip
_DIFFERENT = {
    "debian": {},
    "fedora": {
        **_ELSEWHERE, "qemu-system-common": "qemu-img", "open-iscsi": "iscsi-initiator-utils",
        "reiserfsprogs": "reiserfs-utils",
    },
    # The library's own package has a number that differs by release; the tools bring it.
    "suse": {**_ELSEWHERE, "qemu-system-common": "qemu-img", "reiserfsprogs": "reiserfs",
             "libiscsi7": "libiscsi-utils"},
    "arch": {**_ELSEWHERE, "qemu-system-common": "qemu-img"},
}  # fmt: skip


def hint(programs: Collection[str], release: Callable[[], str] | None = None) -> str:
    """How to install what brings `programs`; `release` gives os-release(5), this machine's else."""
    facts = _facts((release or _release)())
    names = [facts.get("ID", ""), *facts.get("ID_LIKE", "").split()]
    families = (_FAMILIES.get(name, name) for name in names)
    family = next((name.split("-")[0] for name in families if _known(name)), None)
    if family is None:
        return f"install the packages that bring {', '.join(sorted(programs))}"
    family = "suse" if family == "opensuse" else family
    found = {_package(program, family, facts) for program in programs}
    return f"{_COMMANDS[family]} {' '.join(sorted(found))}"


def _known(name: str) -> bool:
    return name in _COMMANDS or name.startswith("opensuse")


def _package(program: str, family: str, facts: dict[str, str]) -> str:
    package = _DEBIAN.get(program, program)
    if program == "qemu-storage-daemon" and facts.get("ID") == "debian":
        # Debian 13 moved it; testing and unstable have no number.
        return "qemu-system-common" if _number(facts) < 13 else "qemu-utils"
    if program == "qemu-storage-daemon" and family == "suse" and _number(facts) < 15.6:
        return "qemu-tools"  # Leap 15.6 and later have it apart
    return _DIFFERENT[family].get(package, package)


def _number(facts: dict[str, str]) -> float:
    try:
        return float(facts.get("VERSION_ID", "inf"))
    except ValueError:
        return float("inf")


def _release() -> str:
    for file in _FILES:
        try:
            return file.read_text(errors="replace")
        except OSError:
            continue
    return ""


def _facts(text: str) -> dict[str, str]:
    """The assignments of os-release(5); what is none is passed over."""
    facts = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        try:
            words = shlex.split(value, comments=True)
        except ValueError:
            continue
        if equals and words and not key.startswith("#"):
            facts[key.strip()] = words[0]
    return facts
