# SPDX-License-Identifier: GPL-2.0-only
"""Sources whose own structures are wrong, or meant to do harm: refused, and nothing is written."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from by_blocks import assert_clean, synchronised
from lab import KIB, MIB, Lab, call, digest

PLAIN = ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-O", "^metadata_csum,^uninit_bg,^64bit")
DESCRIPTORS = 2 * KIB  # with blocks of 1 KiB
BLOCKS = 16 * KIB


def patched(image: Path, at: int, data: bytes) -> None:
    with image.open("r+b") as file:
        file.seek(at)
        file.write(data)


def number(image: Path, at: int, width: int = 4) -> int:
    with image.open("rb") as file:
        file.seek(at)
        return int.from_bytes(file.read(width), "little")


def filled(lab: Lab, name: str, *options: str) -> Path:
    """A filesystem of 16 MiB with some files in it."""
    image = lab.image(name, 16 * MIB)
    tree = lab.folder / f"{name}-tree"
    tree.mkdir()
    for count in range(40):
        (tree / f"file-{count}").write_bytes(os.urandom(5000))
    call(*PLAIN, *options, "-d", tree, image)
    return image


def bitmap_beyond(image: Path) -> None:
    patched(image, DESCRIPTORS, struct.pack("<I", BLOCKS + 9000))


def inode_bitmap_beyond(image: Path) -> None:
    patched(image, DESCRIPTORS + 4, struct.pack("<I", BLOCKS + 9000))


def table_over_the_end(image: Path) -> None:
    patched(image, DESCRIPTORS + 8, struct.pack("<I", BLOCKS - 3))


def bitmap_without_anything(image: Path) -> None:
    patched(image, number(image, DESCRIPTORS) * KIB, bytes(KIB))


def bitmap_and_sums_without_a_file(image: Path) -> None:
    """Everything agrees: only the inodes tell that there is another file."""
    first, count = call("debugfs", "-R", "blocks file-7", image).split()[0], 5
    call("debugfs", "-w", "-R", f"freeb {first} {count}", image)
    for at, width in ((DESCRIPTORS + 12, 2), (KIB + 12, 4)):
        patched(image, at, (number(image, at, width) + count).to_bytes(width, "little"))


@pytest.mark.parametrize(
    "damage",
    [
        bitmap_beyond, inode_bitmap_beyond, table_over_the_end, bitmap_without_anything,
        bitmap_and_sums_without_a_file,
    ],
)  # fmt: skip
def test_a_source_that_contradicts_itself(lab: Lab, damage: Callable[[Path], None]) -> None:
    source = filled(lab, "source.img")
    target = lab.image("target.img", 16 * MIB)
    damage(source)
    before = digest(target)
    said = lab.bsync(source, target, status=3).err
    assert "damaged" in said
    assert "e2fsck" in said
    assert digest(target) == before


@pytest.mark.parametrize("damage", [bitmap_beyond, inode_bitmap_beyond, table_over_the_end])
def test_what_lies_beyond_a_clone_is_not_written(lab: Lab, damage: Callable[[Path], None]) -> None:
    """A pointer beyond the filesystem's end leads, on a disk, into the next partition."""
    source, target = filled(lab, "source.img"), lab.image("target.img", 64 * MIB)
    lab.bsync(source, target, "--no-grow")
    damage(source)
    before = digest(target)
    assert "e2fsck" in lab.bsync(source, target, "--no-grow", status=3).err
    assert digest(target) == before


def test_a_map_that_leads_to_one_block_again_and_again(lab: Lab) -> None:
    source, target = filled(lab, "source.img", "-O", "^extent"), lab.image("target.img", 16 * MIB)
    lab.bsync(source, target)
    with lab.mounted(source) as tree:
        (tree / "large").write_bytes(os.urandom(600 * KIB))
    said = call("debugfs", "-R", "stat large", source)
    double = int(said.split("(DIND):")[1].split(",")[0])
    leaf = number(source, double * KIB)
    patched(source, double * KIB, struct.pack("<I", leaf) * 256)
    patched(source, leaf * KIB, struct.pack("<I", 5000) * 256)
    before = digest(target)
    said = lab.bsync(source, target, status=3).err
    assert "part of a map already" in said
    assert digest(target) == before


def test_the_list_of_bad_blocks_is_followed(lab: Lab) -> None:
    source, target = filled(lab, "source.img"), lab.image("target.img", 16 * MIB)
    lab.bsync(source, target)
    listed = lab.folder / "bad"
    listed.write_text("\n".join(str(block) for block in range(9000, 9020)))
    call("e2fsck", "-f", "-y", "-l", listed, source, ok=(0, 1))
    # What stands in them is nobody's: they are not even read.
    patched(source, 9000 * KIB, os.urandom(20 * KIB))
    synchronised(lab, source, target)
    assert_clean(target)
    with target.open("rb") as file:
        file.seek(9000 * KIB)
        assert not any(file.read(20 * KIB))


def test_a_short_symbolic_link_that_stands_in_a_block(lab: Lab) -> None:
    source, target = filled(lab, "source.img", "-O", "^extent"), lab.image("target.img", 16 * MIB)
    lab.bsync(source, target)
    with lab.mounted(source) as tree:
        (tree / "link").symlink_to("folder/file" + "x" * 80)
    call("debugfs", "-w", "-R", "sif link size 11", source)
    lab.bsync(source, target)
    lab.bsync("verify", source, target)
    with lab.mounted(target, read_only=True, options="noload") as tree:
        assert (tree / "link").readlink() == Path("folder/file")


def with_many_names(lab: Lab) -> tuple[Path, int]:
    """A filesystem whose root takes several blocks of names, and one of these blocks."""
    source = filled(lab, "source.img")
    with lab.mounted(source) as tree:
        for count in range(400):
            (tree / f"{count}-{'name' * 8}").write_text("x")
    blocks = call("debugfs", "-R", "blocks /", source).split()
    return source, int(blocks[len(blocks) // 2])


@pytest.mark.parametrize("engine", ["blocks", "files"])
@pytest.mark.parametrize("junk", [bytes(KIB), b"\xff" * KIB], ids=["zeroes", "ones"])
def test_a_damaged_directory_empties_no_clone(lab: Lab, engine: str, junk: bytes) -> None:
    """Of such a block the kernel shows nothing, and no error."""
    source, block = with_many_names(lab)
    target = lab.image("target.img", 16 * MIB)
    lab.bsync(source, target, "--engine", engine)
    patched(source, block * KIB, junk)
    before = digest(target)
    said = lab.bsync(source, target, "--engine", engine, status=3).err
    assert "directory" in said
    assert "e2fsck" in said
    assert digest(target) == before
    other = lab.image("other.img", 16 * MIB)
    assert "e2fsck" in lab.bsync(source, other, "--engine", engine, status=3).err


def test_a_clone_damaged_below_its_names_is_not_good(lab: Lab) -> None:
    """By files, onto a clone whose own directory is damaged: the kernel notices while it writes."""
    source, _ = with_many_names(lab)
    target = lab.image("target.img", 16 * MIB)
    lab.bsync(source, target, "--engine", "files")
    blocks = call("debugfs", "-R", "blocks /", target).split()
    size = int(call("dumpe2fs", "-h", target).split("Block size:")[1].split()[0])
    patched(target, int(blocks[len(blocks) // 2]) * size, bytes(size))
    lab.bsync(source, target, "--engine", "files", status=5)
    lab.bsync("verify", source, target, status=6)
