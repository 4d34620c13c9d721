# SPDX-License-Identifier: GPL-2.0-only
"""Hints name the package of the distribution at hand."""

from __future__ import annotations

import pytest

from bsync.distribution import hint

DEBIAN_12 = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\nVERSION_ID="12"\n'
DEBIAN_13 = 'ID=debian\nVERSION_ID="13"\n'
SID = "ID=debian\n"
UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\n'
FEDORA = "ID=fedora\nVERSION_ID=41\n"
ALMA = 'ID="almalinux"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n'
LEAP = 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\n'
LEAP_15_5 = LEAP.replace("15.6", "15.5")
TUMBLEWEED = 'ID="opensuse-tumbleweed"\nID_LIKE="opensuse suse"\nVERSION_ID="20250929"\n'
SLES = 'ID="sles"\nID_LIKE="suse"\nVERSION_ID="15.6"\n'
ARCH = "NAME='Arch Linux'\nID=arch\n"
MANJARO = "ID=manjaro\nID_LIKE=arch\n"

TABLE = (
    (DEBIAN_12, "qemu-storage-daemon", "apt-get install qemu-system-common"),
    (DEBIAN_13, "qemu-storage-daemon", "apt-get install qemu-utils"),
    (SID, "qemu-storage-daemon", "apt-get install qemu-utils"),
    (UBUNTU, "qemu-storage-daemon", "apt-get install qemu-system-common"),
    (FEDORA, "qemu-storage-daemon", "dnf install qemu-img"),
    (DEBIAN_12, "sfdisk losetup", "apt-get install fdisk mount"),
    (FEDORA, "sfdisk losetup", "dnf install util-linux"),
    (ALMA, "iscsiadm", "dnf install iscsi-initiator-utils"),
    (LEAP, "sfdisk rsync", "zypper install rsync util-linux"),
    (SLES, "mkfs.xfs", "zypper install xfsprogs"),
    (SLES, "qemu-storage-daemon libiscsi", "zypper install libiscsi-utils qemu-img"),
    (LEAP_15_5, "qemu-storage-daemon", "zypper install qemu-tools"),
    (TUMBLEWEED, "qemu-storage-daemon", "zypper install qemu-img"),
    (ARCH, "qemu-storage-daemon libiscsi", "pacman -S libiscsi qemu-img"),
    (ARCH, "mke2fs qemu-iscsi", "pacman -S e2fsprogs qemu-block-iscsi"),
    (MANJARO, "lvs", "pacman -S lvm2"),
    (DEBIAN_12, "no-such-program", "apt-get install no-such-program"),
    ("ID=plan9\n", "mount lvs", "install the packages that bring lvs, mount"),
    ("", "lvs", "install the packages that bring lvs"),
    ("ID='\n# ID=debian\nnonsense\n", "lvs", "install the packages that bring lvs"),
)


@pytest.mark.parametrize(("release", "programs", "expected"), TABLE)
def test_the_hint_is_the_distributions(release: str, programs: str, expected: str) -> None:
    assert hint(programs.split(), lambda: release) == expected
