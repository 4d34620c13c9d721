# SPDX-License-Identifier: GPL-2.0-only
"""Image files on a filesystem with little room, and those that have theirs already."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import MIB, Lab, call


@pytest.fixture
def little(lab: Lab) -> Iterator[Path]:
    """A filesystem with room for 10 MiB."""
    folder = lab.folder / "little"
    folder.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=10M", "tmpfs", folder)
    yield folder
    call("umount", folder)


def source_of(lab: Lab, size: int) -> Path:
    """A filesystem of 64 MiB with a file of `size` bytes."""
    image = lab.image("source.img", 64 * MIB)
    lab.make(image, None, "mke2fs", "-q", "-t", "ext4", "-J", "size=1")
    with lab.mounted(image) as tree:
        (tree / "file").write_bytes(os.urandom(size))
    return image


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_too_little_room_for_an_image_is_said(lab: Lab, little: Path, engine: str) -> None:
    source, target = source_of(lab, 20 * MIB), little / "target.img"
    target.touch()
    os.truncate(target, 64 * MIB)
    run = lab.bsync("--engine", engine, source, target, status=5)
    assert "may come to need" in run.out
    assert f"the filesystem that holds {target} is full" in run.err


def test_of_room_enough_nothing_is_said(lab: Lab, little: Path) -> None:
    source, target = source_of(lab, MIB), little / "target.img"
    target.touch()
    os.truncate(target, 64 * MIB)
    assert "may come to need" not in lab.bsync(source, target).out


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_an_image_that_has_its_room_keeps_it(lab: Lab, engine: str) -> None:
    source, target = source_of(lab, MIB), lab.image("target.img", 64 * MIB)
    call("fallocate", "--length", str(64 * MIB), target)
    lab.bsync("--engine", engine, source, target)
    assert target.stat().st_blocks * 512 >= 64 * MIB
    lab.bsync("verify", source, target)
