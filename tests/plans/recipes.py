# SPDX-License-Identifier: GPL-2.0-only
"""The images behind the captures: small scripts for sfdisk, mke2fs and mkswap."""

from __future__ import annotations

import os
import struct
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from bsync.filesystems.ext import marker, superblock
from bsync.filesystems.xfs import superblock as xfs_superblock

MIB, GIB = 1 << 20, 1 << 30
ROOT, HOME, SWAP = (f"{digit * 8}-1111-4222-8333-444444444444" for digit in "abc")

_FEATURES = (
    "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,"
    "sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"
)
_DEBIAN = """
label: dos
label-id: 0x12345678
start=2048, size=6291456, type=83, bootable
start=6295552, size=10475520, type=5
start=6297600, size=2097152, type=82
start=8396800, size=8372224, type=83
"""
_GPT = """
label: gpt
label-id: AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE
first-lba: 34
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649, \
uuid=11111111-BBBB-4CCC-8DDD-EEEEEEEEEEEE
start=4096, size=6291456, type=0FC63DAF-8483-4772-8E79-3D69D8477DE4, \
uuid=22222222-BBBB-4CCC-8DDD-EEEEEEEEEEEE, name="root \\x22x\\x22", attrs="GUID:59"
start=6295552, size=2097152, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F, \
uuid=33333333-BBBB-4CCC-8DDD-EEEEEEEEEEEE
"""


def blank(image: Path, size: int) -> None:
    with image.open("wb") as file:
        file.truncate(size)


def call(*argv: str | Path, given: str | None = None) -> None:
    environment = {**os.environ, "MKE2FS_CONFIG": "/dev/null", "LC_ALL": "C.UTF-8"}
    subprocess.run(argv, input=given, text=True, check=True, capture_output=True, env=environment)


def write(image: Path, offset: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def table(image: Path, size: int, script: str) -> None:
    blank(image, size)
    call("sfdisk", "--quiet", image, given=script)


def ext4(
    image: Path, start: int, size: int, uuid: str, label: str, *options: str | Path
) -> None:  # fmt: skip
    """An ext4 at `start`; both in bytes."""
    call(
        "mke2fs", "-q", "-F", "-t", "ext4", "-U", uuid, "-L", label, "-O", _FEATURES, "-b", "4096",
        "-I", "256", "-E", f"hash_seed={uuid},offset={start}", *options, image, f"{size // 1024}k",
    )  # fmt: skip


def swap(image: Path, start: int, size: int, uuid: str, label: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "swap"
        blank(made, size)
        made.chmod(0o600)
        call("mkswap", "--uuid", uuid, "--label", label, made)
        with made.open("rb") as file:
            write(image, start, file.read(4096))


def luks(image: Path, start: int) -> None:
    """Just enough of a LUKS header to be named."""
    header = b"LUKS\xba\xbe\0\1" + bytes(160) + b"dddddddd-1111-4222-8333-444444444444"
    write(image, start, header.ljust(592, b"\0"))


def debian(image: Path) -> None:
    """A root filesystem, and swap and /home inside an extended partition; GRUB in the gap."""
    table(image, 9 * GIB, _DEBIAN)
    ext4(image, MIB, 3 * GIB, ROOT, "root")
    swap(image, 3075 * MIB, GIB, SWAP, "")
    ext4(image, 4100 * MIB, 4088 * MIB, HOME, "home")
    write(image, 0, b"\xeb\x63\x90 GRUB ")
    write(image, 512, b"core image".ljust(31 * 1024, b"\xaa"))


def gpt(image: Path) -> None:
    """GRUB's core image, a root filesystem and swap."""
    table(image, 5 * GIB, _GPT)
    write(image, MIB, b"core image")
    ext4(image, 2 * MIB, 3 * GIB, ROOT, "root")
    swap(image, 3074 * MIB, GIB, SWAP, 'with "space"')
    write(image, 0, b"\xeb\x63\x90 GRUB ")


def roomy(image: Path) -> None:
    """Partitions like `debian`'s, greater, elsewhere, and one more."""
    script = """
label: dos
label-id: 0x87654321
start=4096, size=8388608, type=83, bootable
start=8392704, size=20971520, type=f
start=8394752, size=2097152, type=82
start=10493952, size=10485760, type=83
start=20981760, size=2048, type=c
"""
    table(image, 16 * GIB, script)
    luks(image, 10245 * MIB)


def extents(image: Path, *lines: str) -> None:
    table(image, 9 * GIB, "\n".join(["label: dos", "label-id: 0x11111111", *lines]))


def encrypted(image: Path) -> None:
    extents(image, "start=2048, size=2097152, type=83")
    luks(image, MIB)


def overlapping(image: Path) -> None:
    """Two entries that share sectors, as no tool makes them any more."""
    extents(image, "start=2048, size=2097152, type=83", "start=2099200, size=2048, type=83")
    write(image, 446 + 16 + 8, struct.pack("<I", 4096))


def bare(image: Path) -> None:
    blank(image, 4 * GIB)
    ext4(image, 0, 4 * GIB, ROOT, "data")


def mirror_full(image: Path) -> None:
    """A mirror of `bare` from when it had three thousand files."""
    with tempfile.TemporaryDirectory() as folder:
        for number in range(3000):
            (Path(folder) / str(number)).touch()
        blank(image, 4 * GIB)
        ext4(image, 0, 4 * GIB, ROOT, "data", "-d", folder)


def unfinished(image: Path) -> None:
    blank(image, 5 * GIB)
    ext4(image, 0, 4 * GIB, marker.marker_uuid(ROOT), marker.LABEL)


def dirty(image: Path) -> None:
    """A journal that holds what the filesystem does not have yet."""
    bare(image)
    with image.open("rb") as file:
        data = file.read(2048)[1024:]
    flags = int.from_bytes(data[0x60:0x64], "little") | 4
    data = data[:0x60] + struct.pack("<I", flags) + data[0x64:]
    write(image, 1024, data[:0x3FC] + struct.pack("<I", superblock.checksum(data)))


def cut_short(image: Path) -> None:
    """A copy that ended too early."""
    bare(image)
    os.truncate(image, 2 * GIB)


def asleep(image: Path) -> None:
    blank(image, GIB)
    swap(image, 0, GIB, SWAP, "")
    write(image, 4086, b"S1SUSPEND\0")


def reiser(image: Path) -> None:
    blank(image, GIB)
    call("mkreiserfs", "-q", "-f", "-f", "-u", ROOT, "-l", "old", image)


def reiser_mounted(image: Path) -> None:
    """As a power cut leaves it."""
    reiser(image)
    write(image, 65536 + 50, struct.pack("<H", 2))


def reiser_old(image: Path) -> None:
    blank(image, GIB)
    call("mkreiserfs", "-q", "-f", "-f", "--format", "3.5", image)


def reiser_unfinished(image: Path) -> None:
    blank(image, GIB)
    call("mkreiserfs", "-q", "-f", "-f", "-u", marker.marker_uuid(ROOT), "-l", marker.LABEL, image)


def xfs(image: Path) -> None:
    blank(image, GIB)
    call("mkfs.xfs", "-q", "-m", f"uuid={ROOT}", "-L", "data", image)


def xfs_unclean(image: Path) -> None:
    """The last record of its log has two operations, so it is not of an unmount."""
    xfs(image)
    with image.open("rb") as file:
        sb = xfs_superblock.parse(file.read(512))
    write(image, sb.log_start + 40, struct.pack(">I", 2))


def only_swap(image: Path) -> None:
    blank(image, GIB)
    swap(image, 0, GIB, SWAP, "swap \u2028 space")


RECIPES: dict[str, Callable[[Path], None]] = {
    "blank-1g": lambda image: blank(image, GIB),
    "blank-4g": lambda image: blank(image, 4 * GIB),
    "blank-16g": lambda image: blank(image, 16 * GIB),
    "debian": debian,
    "gpt": gpt,
    "roomy": roomy,
    "encrypted": encrypted,
    "overlapping": overlapping,
    "bare": bare,
    "mirror-full": mirror_full,
    "unfinished": unfinished,
    "dirty": dirty,
    "cut-short": cut_short,
    "asleep": asleep,
    "only-swap": only_swap,
    "xfs": xfs,
    "xfs-unclean": xfs_unclean,
    "reiser": reiser,
    "reiser-mounted": reiser_mounted,
    "reiser-old": reiser_old,
    "reiser-unfinished": reiser_unfinished,
}
