# SPDX-License-Identifier: GPL-2.0-only
"""A bootable Debian 12 system disk, made once and kept for the boot tests.

A DOS table with a primary root partition, an extended one, and swap and /home
as logical partitions inside it; GRUB in front of the first partition.  The
last partition ends with the disk, so a shorter destination has to shrink one.

Everything is written at an offset into one plain file: no loop device and no
mount is needed.  It has to run as root, for the files to belong to root.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kept import kept

MIB: Final = 1024**2
SECTOR: Final = 512

DISK_ID: Final = 0x1234ABCD
MARKER: Final = "BOOT-MARKER-OK"
"""The guest's init prints this, and what it found mounted, before it powers off."""
CONTENT_MARKER: Final = "BOOT-TEST"
"""Printed with the content of /etc/boot-test, if the disk has that file."""


@dataclass(frozen=True)
class Partition:
    """A partition of the disk: its row in the table, in bytes, and what is in it."""

    number: int
    start: int
    size: int
    type: str  # as sfdisk has it
    content: str = ""
    uuid: str = ""

    @property
    def end(self) -> int:
        return self.start + self.size

    @property
    def label(self) -> str:
        return f"bsync-{self.number}"


# A logical partition has its own table in the MiB in front of it.
ROOT: Final = Partition(
    1, MIB, 576 * MIB, "83, bootable", "ext4", "b5c10001-0000-4000-8000-000000000001"
)
SWAP: Final = Partition(
    5, ROOT.end + MIB, 32 * MIB, "82", "swap", "b5c10005-0000-4000-8000-000000000005"
)
HOME: Final = Partition(
    6, SWAP.end + MIB, 64 * MIB, "83", "ext3", "b5c10006-0000-4000-8000-000000000006"
)
EXTENDED: Final = Partition(2, ROOT.end, HOME.end - ROOT.end, "5")
DISK_SIZE: Final = HOME.end

_SUITE = "bookworm"
_PACKAGES = (
    "linux-image-cloud-amd64,initramfs-tools,zstd,kmod,udev,"  # a kernel and what loads it
    "busybox,e2fsprogs,mount"  # what init calls
)
_GRUB = Path("/usr/lib/grub/i386-pc")
# The least that finds the root by its UUID; the rest is read from there, so a
# clone boots only if its /boot/grub is whole.
_CORE_MODULES = ("biosdisk", "part_msdos", "ext2", "search_fs_uuid")

_INITRAMFS_CONF = """\
# What this virtual machine needs and no more: it is unpacked under emulation.
MODULES=list
COMPRESS=zstd
FSTYPE=ext4
"""
_INITRAMFS_MODULES = "virtio_pci\nvirtio_blk\next4\ncrc32c\n"

_FSTAB = f"""\
UUID={ROOT.uuid} /     ext4 errors=remount-ro 0 1
UUID={HOME.uuid} /home ext3 defaults          0 2
UUID={SWAP.uuid} none  swap sw                0 0
"""

# init itself, instead of systemd: the system does what is in fstab, tells what
# came of it and ends, in a fraction of the time.
_INIT = f"""\
#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec > /dev/console 2>&1
mount -t proc proc /proc 2> /dev/null
mount -t sysfs sysfs /sys 2> /dev/null
mount -o remount,rw /
mount -a
swapon -a

uuid_mounted_at() {{
    device=$(findmnt -no SOURCE "$1") && blkid -p -o value -s UUID "$device" || echo none
}}
swap=no
[ "$(wc -l < /proc/swaps)" -gt 1 ] && swap=yes
[ -f /etc/boot-test ] && echo "{CONTENT_MARKER} $(cat /etc/boot-test)"
echo "{MARKER} root=$(uuid_mounted_at /) home=$(uuid_mounted_at /home) swap=$swap"

swapoff -a
umount /home 2> /dev/null
mount -o remount,ro /
exec busybox poweroff -f
"""

_CORE_CONFIG = f"""\
search.fs_uuid {ROOT.uuid} root
set prefix=($root)/boot/grub
"""


def _grub_config(kernel: str) -> str:
    """Return the menu: one entry, at once, on the serial console alone.

    The firmware's own console is on the same line (see machine.py), so output
    to both would print everything twice.
    """
    options = "ro quiet console=ttyS0,115200 mitigations=off panic=-1"
    return f"""\
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
set timeout=0
menuentry 'Debian' {{
    search --no-floppy --fs-uuid --set=root {ROOT.uuid}
    linux /boot/vmlinuz-{kernel} root=UUID={ROOT.uuid} {options}
    initrd /boot/initrd.img-{kernel}
}}
"""


def debian_disk() -> Path:
    """Return the disk's image, read-only and to be copied; build it if absent.

    A change of this file makes another image, beside the former one.
    """
    return kept("debian", (Path(__file__),), _build) / "disk.img"


def _build(work: Path, result: Path) -> None:
    root, home, disk = work / "root", work / "home", result / "disk.img"
    _make_system(root)
    _make_home(home)
    with disk.open("wb") as file:
        file.truncate(DISK_SIZE)
    _write_table(disk)
    _write_boot_loader(disk, work)
    _write_filesystem(disk, ROOT, root)
    _write_filesystem(disk, HOME, home)
    _write_swap(disk, work)
    disk.chmod(0o444)


def _make_system(root: Path) -> None:
    """Unpack Debian, then make it a guest of these tests."""
    settings = root.with_name("initramfs-tools")
    (settings / "conf.d").mkdir(parents=True)
    (settings / "conf.d" / "small").write_text(_INITRAMFS_CONF)
    (settings / "modules").write_text(_INITRAMFS_MODULES)
    _debootstrap(root, settings)
    _replace(root / "sbin" / "init", _INIT, 0o755)
    _replace(root / "etc" / "fstab", _FSTAB)
    _replace(root / "etc" / "hostname", "bsync-boot\n")
    grub = root / "boot" / "grub"
    shutil.copytree(_GRUB, grub / "i386-pc", ignore=shutil.ignore_patterns("*.img", "*.module"))
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    _replace(grub / "grub.cfg", _grub_config(kernel.name.removeprefix("vmlinuz-")))


def _debootstrap(root: Path, initramfs_settings: Path) -> None:
    # The settings must be there before the kernel's package makes the initramfs.
    unwanted = ("doc", "man", "locale", "info")
    _run(
        # A process space of its own: all of the build ends if its run is killed.
        *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        "mmdebstrap",
        "--quiet",
        "--mode=root",
        "--variant=minbase",
        f"--include={_PACKAGES}",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in unwanted),
        f'--essential-hook=cp -R "{initramfs_settings}" "$1/etc/"',
        _SUITE,
        str(root),
    )


def _replace(path: Path, text: str, mode: int = 0o644) -> None:
    """Write a file anew, not through a link that may lead out of the tree."""
    path.unlink(missing_ok=True)
    path.write_text(text)
    path.chmod(mode)


def _make_home(home: Path) -> None:
    """Make a few files of the kinds a clone can get wrong."""
    user = home / "kim"
    user.mkdir(parents=True)
    (user / "letter.txt").write_text("Dear reader,\n")
    (user / "the same letter.txt").hardlink_to(user / "letter.txt")
    (user / "link").symlink_to("letter.txt")
    (user / "naïve name.txt").write_text("not ASCII\n", encoding="utf-8")
    (user / "empty").touch()
    with (user / "sparse").open("wb") as file:
        file.seek(8 * MIB)
        file.write(b"the end")
    for path in (user, *user.iterdir()):
        os.chown(path, 1000, 1000, follow_symlinks=False)
    (user / "letter.txt").chmod(0o600)


def _write_table(disk: Path) -> None:
    lines = [
        f"{row.number}: start={row.start // SECTOR}, size={row.size // SECTOR}, type={row.type}"
        for row in (ROOT, EXTENDED, SWAP, HOME)
    ]
    script = "\n".join(["label: dos", f"label-id: {DISK_ID:#x}", "unit: sectors", *lines, ""])
    _run("sfdisk", "--quiet", str(disk), script=script)


def _write_boot_loader(disk: Path, work: Path) -> None:
    config, core = work / "load.cfg", work / "core.img"
    config.write_text(_CORE_CONFIG)
    _run(
        "grub-mkimage",
        "--format=i386-pc",
        "--prefix=/boot/grub",
        f"--config={config}",
        f"--output={core}",
        *_CORE_MODULES,
    )
    # GRUB's first stage looks for the second in the next sector, and leaves
    # the disk's signature and table, from byte 440 on, alone.
    _write_at(disk, 0, (_GRUB / "boot.img").read_bytes()[:440])
    second_stage = core.read_bytes()
    if SECTOR + len(second_stage) > ROOT.start:
        raise RuntimeError(f"GRUB's core of {len(second_stage)} bytes does not fit in the gap")
    _write_at(disk, SECTOR, second_stage)


def _write_filesystem(disk: Path, partition: Partition, tree: Path) -> None:
    # Debian 12 makes its filesystems without these two, and its GRUB cannot
    # read the first.
    without = "^metadata_csum_seed,^orphan_file"
    _run(
        *("mke2fs", "-q", "-F", "-t", partition.content, "-O", without),
        *("-U", partition.uuid, "-L", partition.label),
        *("-d", str(tree), "-E", f"offset={partition.start}"),
        *(str(disk), f"{partition.size // 1024}k"),
    )


def _write_swap(disk: Path, work: Path) -> None:
    area = work / "swap.img"
    area.touch(0o600)
    os.truncate(area, SWAP.size)
    _run("mkswap", "--uuid", SWAP.uuid, "--label", SWAP.label, str(area))
    page = os.sysconf("SC_PAGE_SIZE")
    with area.open("rb") as file:
        _write_at(disk, SWAP.start, file.read(page))  # the rest is zero


def _write_at(disk: Path, offset: int, data: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def _run(*command: str, script: str = "") -> None:
    """Run a tool; if it fails, say what it said."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    environment["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    done = subprocess.run(
        ("setpriv", "--pdeathsig", "KILL", *command),  # ends with the run that wants it
        input=script,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}:\n{done.stdout}")
