# SPDX-License-Identifier: GPL-2.0-only
"""Clones that are to have more room: what is announced is done, and what was done is checked."""

from __future__ import annotations

import os
from pathlib import Path
from shutil import which

import pytest
from by_blocks import IDLE, blocks_of, synchronised
from lab import MIB, Lab, call
from small_disks import BARE_SIZE, bare

UUID = "11111111-2222-4333-8444-555555555555"


def filesystem(lab: Lab, name: str, size: int, *options: str) -> Path:
    image = lab.image(name, size)
    call("mke2fs", "-q", "-F", "-t", "ext4", "-b", "1024", "-U", UUID, *options, image)
    return image


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_a_destination_that_was_enlarged_since(lab: Lab, kind: str) -> None:
    source, target = bare(lab, kind), lab.image("target.img", BARE_SIZE)
    lab.bsync(source, target)
    for size in (20 * MIB, 40 * MIB):  # as large as its source; grown before
        os.truncate(target, size)
        said = lab.bsync("plan", source, target).out
        assert "grow" in said
        assert "if it differs" not in said
        synchronised(lab, source, target)
        assert blocks_of(target) == size // 1024


def test_a_destination_that_was_enlarged_but_is_not_to_grow(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.bsync(source, target)
    os.truncate(target, 40 * MIB)
    assert IDLE in lab.bsync("--no-grow", source, target).out
    assert blocks_of(target) == blocks_of(source)


def test_a_single_backup_superblock_that_resize2fs_would_lose(lab: Lab) -> None:
    options = ("-O", "sparse_super2", "-E", "num_backup_sb=1")
    source = filesystem(lab, "source.img", 64 * MIB, *options)
    target = lab.image("target.img", 300 * MIB)
    assert "backup superblock" in lab.bsync(source, target).out
    lab.assert_clean(target)
    lab.bsync("verify", source, target)
    lab.bsync("--no-grow", "--engine", "blocks", source, target)
    lab.assert_clean(target)


def test_an_orphan_file_that_resize2fs_would_move(lab: Lab) -> None:
    options = ("-O", "orphan_file,^resize_inode", "-L", "data")
    target = lab.image("target.img", 16 * MIB)
    lab.bsync("--engine", "files", filesystem(lab, "first.img", 16 * MIB, *options), target)
    source = filesystem(lab, "second.img", 48 * MIB, *options)
    with lab.mounted(source) as tree:
        (tree / "large").write_bytes(os.urandom(24 * MIB))
    os.truncate(target, 300 * MIB)
    refused = lab.bsync("--engine", "files", source, target, status=3).err
    assert "the files need" in refused
    assert "wipefs" in refused
    lab.assert_clean(target)


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_what_resize2fs_made_is_checked(lab: Lab, engine: str) -> None:
    """A resize2fs that is stood in for by one that damages what it grew."""
    first = filesystem(lab, "first.img", 16 * MIB)
    target = lab.image("target.img", 16 * MIB)
    lab.bsync("--engine", engine, first, target)
    source = filesystem(lab, "second.img", 32 * MIB)
    with lab.mounted(source) as tree:
        (tree / "large").write_bytes(os.urandom(20 * MIB))
    os.truncate(target, 64 * MIB)
    damaging = 'for word; do case $word in /dev/*) set -- "$word";; esac; done\n'
    damaging += 'debugfs -w -R "clri <11>" "$1"; exit'
    resize2fs = lab.stand_in("resize2fs", f'{which("resize2fs")} "$@" || exit\n{damaging}')
    said = lab.bsync("--engine", engine, "--yes", source, target, status=5).err
    assert "damaged after growing" in said
    lab.bsync("verify", source, target, status=6)
    resize2fs.unlink()
    lab.bsync("--engine", engine, source, target)
    lab.bsync("verify", source, target)
