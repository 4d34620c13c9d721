# SPDX-License-Identifier: GPL-2.0-only
"""Filesystems whose insides are damaged, through the blocks engine: one line, or a copy.

The superblock is spared, since a survey would not let a damaged one pass; everything that it
leads to is not.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from by_blocks import copied
from lab import MIB, Lab, call

from bsync.errors import BsyncError
from bsync.plan.steps import Way

SIZE = 12 * MIB
CASES = 60


def filesystem(lab: Lab, name: str, *words: str) -> Path:
    """A small filesystem with a few files, some of them in pieces."""
    tree = lab.folder / "tree"
    (tree / "folder").mkdir(parents=True)
    for number in range(40):
        (tree / f"folder/{number}").write_bytes(b"x" * number * 700)
    with (tree / "holed").open("wb") as file:
        for number in range(20):
            file.seek(number * 30_000)
            file.write(b"data")
    image = lab.image(name, SIZE)
    call("mke2fs", "-q", "-b", "1024", *words, "-d", tree, image)
    return image


def spoil(image: Path, seed: int) -> None:
    """Damage a few places of what mke2fs has written, mostly where structures are."""
    chance = random.Random(seed)
    with image.open("r+b") as file:
        for _ in range(chance.randrange(1, 12)):
            limit = chance.choice([8 * 1024, 512 * 1024, SIZE])
            file.seek(chance.randrange(2048, limit - 64))
            at = file.tell()
            old = bytearray(file.read(64))
            for _ in range(chance.randrange(1, 9)):
                old[chance.randrange(64)] = chance.choice([0, 1, 0x7F, 0x80, 0xFF, *old[:3]])
            file.seek(at)
            file.write(old)


@pytest.mark.parametrize("kind", ["ext4", "ext2"])
def test_damage_ends_in_a_line_or_a_copy(lab: Lab, kind: str) -> None:
    good = filesystem(lab, "good.img", "-t", kind)
    mirror, damaged, target = (lab.image(name, SIZE) for name in ("mirror", "damaged", "target"))
    copied(good, mirror, Way.FRESH)
    refused = 0
    for seed in range(CASES):
        shutil.copyfile(good, damaged)
        spoil(damaged, seed)
        before = damaged.read_bytes()
        for way in Way:
            shutil.copyfile(mirror, target)
            refused += not ends_well(damaged, target, way)
        assert damaged.read_bytes() == before
        refused += not ends_well(good, damaged, Way.CHANGES)
    assert refused, "nothing was too damaged to be followed"


def ends_well(source: Path, target: Path, way: Way) -> bool:
    """Whether a copy came about; anything but a line of ours is raised."""
    said = ""
    try:
        copied(source, target, way)
    except BsyncError as error:
        said = error.message
    assert "\n" not in said
    return not said
