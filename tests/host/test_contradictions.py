# SPDX-License-Identifier: GPL-2.0-only
"""Sources whose records contradict each other: what would be missing from a copy is never lost."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from by_blocks import copied
from lab import KIB, MIB, Lab, call, digest
from test_damaged_sources import BLOCKS, DESCRIPTORS, filled, number, patched

from bsync.errors import Damaged
from bsync.plan.steps import Way

SUMMED = ("-O", "metadata_csum")
LISTED = ("-O", "uninit_bg")  # inode tables that are initialised in part, without checksums of data
POINTERS = ("-O", "^extent")
SECOND = DESCRIPTORS + 32  # the descriptor of group 1
_UNINIT, _UNUSED = 0x12, 0x1C  # in a descriptor

Damage = Callable[[Path], None]


def another_block_is_free(image: Path) -> None:
    """As many as before are: only the map of the file tells."""
    first = call("debugfs", "-R", "blocks file-7", image).split()[0]
    call("debugfs", "-w", "-R", f"freeb {first}", image)
    call("debugfs", "-w", "-R", "setb 8000", image)


def the_node_of_a_map_is_free(image: Path) -> None:
    large = image.with_name("large")
    large.write_bytes(bytes([1]) * 100 * KIB)
    call("debugfs", "-w", "-R", f"write {large} large", image)
    said = call("debugfs", "-R", "stat large", image)
    node = int(said.split("(IND):")[1].split(",")[0])
    call("debugfs", "-w", "-R", f"freeb {node}", image)
    call("debugfs", "-w", "-R", f"setb {8000 if node <= 8192 else 16000}", image)


def a_bitmap_is_not_what_was_written(image: Path) -> None:
    """One block was freed for another one, behind the checksum's back."""
    at = number(image, DESCRIPTORS) * KIB + 1000
    patched(image, at, b"\x01")


def an_inode_bitmap_forgets(image: Path) -> None:
    patched(image, number(image, DESCRIPTORS + 4) * KIB, bytes(8))


def two_groups_have_one_bitmap(image: Path) -> None:
    patched(image, SECOND, number(image, DESCRIPTORS).to_bytes(4, "little"))


def fewer_inodes_are_initialised_than_used(image: Path) -> None:
    unused = number(image, DESCRIPTORS + _UNUSED, 2)
    patched(image, DESCRIPTORS + _UNUSED, struct.pack("<H", unused + 60))


def descriptors_without_end(image: Path) -> None:
    """A group of eight blocks has no room to describe thousands of them."""
    groups = -(-(BLOCKS - 1) // 8)
    patched(image, KIB + 0x20, struct.pack("<I", 8))
    patched(image, KIB + 0x28, struct.pack("<I", 8))
    patched(image, KIB, struct.pack("<I", groups * 8))


@pytest.mark.parametrize(
    ("damage", "options", "said"),
    [
        (another_block_is_free, (), "said to be free"),
        (the_node_of_a_map_is_free, POINTERS, "said to be free"),
        (a_bitmap_is_not_what_was_written, SUMMED, "wrong checksum"),
        (an_inode_bitmap_forgets, SUMMED, "wrong checksum"),
        (an_inode_bitmap_forgets, (), "inodes of group 0"),
        (two_groups_have_one_bitmap, (), "the same block"),
        (fewer_inodes_are_initialised_than_used, LISTED, "inodes of group 0"),
    ],
)
def test_a_contradiction_is_found(
    lab: Lab, damage: Damage, options: tuple[str, ...], said: str
) -> None:
    source, target = filled(lab, "source.img", *options), lab.image("target.img", 16 * MIB)
    copied(source, lab.image("whole.img", 16 * MIB), Way.FRESH)
    damage(source)
    before = digest(target)
    with pytest.raises(Damaged, match=said) as refused:
        copied(source, target, Way.FRESH)
    assert "e2fsck" in refused.value.hint
    assert digest(target) == before


def test_descriptors_that_no_group_could_hold(lab: Lab) -> None:
    source, target = filled(lab, "source.img"), lab.image("target.img", 16 * MIB)
    descriptors_without_end(source)
    assert "descriptors larger than groups" in lab.bsync(source, target, status=3).err
