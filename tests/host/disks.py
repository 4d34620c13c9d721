# SPDX-License-Identifier: GPL-2.0-only
"""Disks with tables of every kind, filled with filesystems, and what a clone of one must be."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from lab import MIB, SECTOR, Lab, Part, call
from trees import assert_same_tree

KINDS = ("ext4", "ext2", "ext3")
EXTENDED = ("5", "f", "85")
LINUX = ("83", "0FC63DAF-8483-4772-8E79-3D69D8477DE4")
SWAP = ("82", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F")


def read(image: Path, at: int, size: int) -> bytes:
    with image.open("rb") as file:
        return os.pread(file.fileno(), size, at)


def write(image: Path, at: int, data: bytes) -> None:
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), data, at)


def fill(lab: Lab, image: Path) -> None:
    """A small filesystem in every Linux partition, swap in every one of its type."""
    for part, kind in zip(lab.partitions(image), itertools.cycle(KINDS)):
        if part.type in LINUX:
            top = lab.folder / f"tree-{image.name}-{part.number}"
            (top / "folder").mkdir(parents=True)
            for number in range(5):
                (top / "folder" / f"file-{number}").write_text(f"{part.number} {number}")
            lab.make(image, part, "mke2fs", "-q", "-t", kind, "-b", "1024", "-L",
                     f"part-{part.number}", "-d", str(top))  # fmt: skip
        elif part.type in SWAP:
            lab.make(image, part, "mkswap", "-q", "-L", f"swap-{part.number}")


def records(image: Path) -> list[int]:
    """Where the MBR and every EBR stand, as the kernel would follow them."""
    found, at, start = [0], -1, 0
    for entry in _entries(read(image, 0, SECTOR)):
        if entry[0] in EXTENDED:
            start = at = entry[1]
    while at >= 0 and at not in found and read(image, at + 510, 2) == b"\x55\xaa":
        found.append(at)
        links = [start + entry[1] for entry in _entries(read(image, at, SECTOR))[:2]
                 if entry[0] in EXTENDED]  # fmt: skip
        at = links[0] if links else -1
    return found


def _entries(record: bytes) -> list[tuple[str, int]]:
    rows = [record[446 + 16 * index :][:16] for index in range(4)]
    return [(f"{row[4]:x}", int.from_bytes(row[8:12], "little") * SECTOR) for row in rows]


def pairs(lab: Lab, source: Path, target: Path) -> Iterator[tuple[Part, Part]]:
    """Each partition of the source with that of the same number."""
    there = {part.number: part for part in lab.partitions(target)}
    for part in lab.partitions(source):
        assert part.number in there, f"partition {part.number} is missing"
        yield part, there[part.number]


def assert_clone(lab: Lab, source: Path, target: Path) -> None:
    """The target boots what the source boots and holds what it holds; a second run agrees."""
    assert read(target, 0, 446) == read(source, 0, 446)
    for here, there in pairs(lab, source, target):
        if here.type in EXTENDED:
            assert there.type in EXTENDED
            continue
        assert here.type == there.type
        if here.type in LINUX:
            lab.assert_clean(target, there)
            assert_same_tree(lab, source, target, here, there)
        if here.type in (*LINUX, *SWAP):
            assert names(lab, source, here) == names(lab, target, there)
    call("sfdisk", "--verify", target)
    before = outside(lab, target)
    said = lab.bsync(source, target).out
    assert "done: 0 files, 0 bytes transferred" in said, said
    assert outside(lab, target) == before


def names(lab: Lab, image: Path, part: Part) -> dict[str, str]:
    """Kind, UUID and label, as blkid says them."""
    with lab.attached(image, part, read_only=True) as device:
        lines = call("blkid", "-p", "-o", "export", device).splitlines()
    rows = (line.partition("=") for line in lines)
    return {key: value for key, _, value in rows if key in ("TYPE", "UUID", "LABEL")}


def outside(lab: Lab, image: Path) -> list[bytes]:
    """The bytes that belong to no partition: tables, boot code, gaps."""
    parts = [part for part in lab.partitions(image) if part.type not in EXTENDED]
    found, at = [], 0
    for part in sorted(parts, key=lambda part: part.start):
        found.append(read(image, at, part.start - at))
        at = part.start + part.size
    return [*found, read(image, at, image.stat().st_size - at)]


def random_boot(image: Path, gap: int = 40_000) -> None:
    """Boot code, a disk signature, and a boot loader in the gap."""
    table = read(image, 446, 66)
    write(image, 0, os.urandom(446) + table + os.urandom(gap))


__all__ = [
    "EXTENDED", "LINUX", "MIB", "SECTOR", "SWAP", "assert_clone", "fill", "names", "outside",
    "pairs", "random_boot", "read", "records", "write",
]  # fmt: skip
