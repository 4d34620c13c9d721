# SPDX-License-Identifier: GPL-2.0-only
"""Clones by blocks on places with more room than their source, and sources that outgrow them."""

from __future__ import annotations

import os

import pytest
from by_blocks import IDLE, assert_same_blocks, blocks_of, synchronised
from lab import KIB, MIB, Lab, call
from small_disks import BARE_SIZE, bare


def test_a_source_that_was_grown(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.bsync(source, target)
    for image in (source, target):
        os.truncate(image, 40 * MIB)
    with lab.attached(source) as device:
        call("e2fsck", "-f", "-p", device, ok=(0, 1))
        call("resize2fs", device)
    with lab.mounted(source) as tree:
        (tree / "new").write_bytes(os.urandom(16 * MIB))
    assert "blocks" in lab.bsync("plan", "--json", source, target).out
    synchronised(lab, source, target)
    assert blocks_of(target) == blocks_of(source)
    assert_same_blocks(source, target)


@pytest.mark.parametrize("size", [BARE_SIZE, 40 * MIB])
@pytest.mark.parametrize(
    ("made", "change"),
    [
        ("-I 128 -O ^flex_bg,^metadata_csum", "tune2fs -I 256 {}"),
        ("-O 64bit", "resize2fs -s {}"),
        ("-O 64bit", "resize2fs {} 8M"),
    ],
)
def test_a_source_whose_geometry_changed(lab: Lab, made: str, change: str, size: int) -> None:
    """It stays a source of clones by blocks, all of which may lie elsewhere now."""
    source, target = lab.image("source.img", BARE_SIZE), lab.image("target.img", size)
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4", "-b", "1024", *made.split())
    with lab.mounted(source) as tree:
        (tree / "file").write_bytes(os.urandom(MIB))
    lab.bsync(source, target)
    call("e2fsck", "-f", "-p", source, ok=(0, 1))
    call(*change.format(source).split())
    assert "by blocks (only what changed)" in lab.bsync("plan", source, target).out
    said = synchronised(lab, source, target)
    assert ("all blocks in use are compared" in said) == ("resize2fs {} 8M" not in change)
    lab.assert_clean(target)
    if size == BARE_SIZE:
        assert_same_blocks(source, target)


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_a_clone_on_a_larger_place_grows_and_still_synchronises(lab: Lab, kind: str) -> None:
    source, target = bare(lab, kind), lab.image("target.img", 40 * MIB)
    synchronised(lab, source, target)
    grown = blocks_of(target)
    assert grown > 3 * blocks_of(source)
    for number in range(3):
        with lab.mounted(source) as tree:
            (tree / "file-001").write_text(f"changed {number}")
            (tree / f"new-{number}").write_bytes(os.urandom(100_000))
            (tree / f"file-00{number + 3}").unlink()
        assert "1 deleted" in synchronised(lab, source, target)
        assert blocks_of(target) == grown
    with lab.mounted(target) as tree:  # beyond what the source has
        (tree / "huge").write_bytes(os.urandom(20 * MIB))
    assert IDLE not in synchronised(lab, source, target, "--yes")


@pytest.mark.parametrize(
    ("block", "more"), [(KIB, 512), (KIB, 3 * KIB), (4 * KIB, 80 * KIB)]
)  # fmt: skip
def test_room_that_resize2fs_does_not_use(lab: Lab, block: int, more: int) -> None:
    """Less than a page, or than a last group wants: the clone is its source, and stays so."""
    size = 2 * 8192 * block
    source, target = lab.image("source.img", size), lab.image("target.img", size + more)
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4", "-b", str(block), "-g", "8192")
    for number in range(3):
        with lab.mounted(source) as tree:
            (tree / f"new-{number}").write_bytes(os.urandom(MIB))
        lab.bsync("--yes", source, target)
        assert_same_blocks(source, target)
        assert IDLE in lab.bsync(source, target).out
    lab.assert_clean(target)


def test_a_clone_that_is_not_to_grow(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 40 * MIB)
    synchronised(lab, source, target, "--no-grow")
    assert blocks_of(target) == blocks_of(source)
    assert_same_blocks(source, target)
    with lab.mounted(source) as tree:
        (tree / "new").write_text("new")
    synchronised(lab, source, target, "--no-grow")
    assert_same_blocks(source, target)
