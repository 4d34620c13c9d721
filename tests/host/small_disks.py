# SPDX-License-Identifier: GPL-2.0-only
"""Small sources for tests that clone very often: a bare filesystem, and a disk of several."""

from __future__ import annotations

import os
from pathlib import Path

from lab import MIB, Lab, Part, call

# ext2, an extended partition, in it ext4 and swap
TABLE = """label: dos
label-id: 0x5af37e57
start=2048, size=14336, type=83, bootable
start=16384, size=28672, type=5
start=18432, size=16384, type=83
start=36864, size=4096, type=82
"""
DISK_SIZE = 24 * MIB
BARE_SIZE = 12 * MIB


def folder(lab: Lab, name: str, files: int = 8, size: int = 20_000) -> Path:
    """A folder with a little of everything that a copy may get wrong half-way."""
    top = lab.folder / name
    (top / "deep" / "er").mkdir(parents=True)
    for number in range(files):
        content = f"{name} {number}\n".encode() * (size // 16)
        (top / f"file-{number:03}").write_bytes(content)
    (top / "deep" / "er" / "file").write_text("deep")
    os.link(top / "file-000", top / "deep" / "link")
    (top / "deep" / "symlink").symlink_to("../file-001")
    return top


def bare(lab: Lab, kind: str = "ext4", name: str = "source.img", files: int = 8) -> Path:
    """An image of one filesystem."""
    image = lab.image(name, BARE_SIZE)
    tree = folder(lab, f"{name}-tree", files)
    lab.make(image, None, "mke2fs", "-q", "-t", kind, "-L", "data", "-d", str(tree))
    return image


def disk(lab: Lab, name: str = "source.img", *, boot: bool = True, files: int = 8) -> Path:
    """An image of a disk with ext2, ext4 and swap; with `boot`, also boot code and a gap."""
    image = lab.image(name, DISK_SIZE)
    first, _, fourth, swap = lab.table(image, TABLE)
    for part, kind in ((first, "ext2"), (fourth, "ext4")):
        tree = folder(lab, f"{name}-tree-{part.number}", files)
        lab.make(image, part, "mke2fs", "-q", "-t", kind, "-L", f"part{part.number}",
                 "-d", str(tree))  # fmt: skip
    lab.make(image, swap, "mkswap", "-q", "-L", "swapped")
    if boot:
        overwrite(image, 0, b"\xeb\xfe" + b"boot code" * 40)
        overwrite(image, 512, b"what the boot code loads" * 100)
    return image


def overwrite(image: Path, offset: int, data: bytes) -> None:
    """Write `data` into the image."""
    with image.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def filesystems(lab: Lab, image: Path) -> list[Part | None]:
    """Where the image has ext filesystems; None is the whole image."""
    if b"PTTYPE" not in call("blkid", "-p", "-o", "export", image, ok=(0, 2)).encode():
        return [None]
    return [part for part in lab.partitions(image) if part.type == "83"]


def copied(image: Path, name: str) -> Path:
    """A copy of an image, as sparse as it can be."""
    path = image.with_name(name)
    call("cp", "--sparse=always", image, path)
    return path
