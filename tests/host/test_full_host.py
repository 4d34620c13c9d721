# SPDX-License-Identifier: GPL-2.0-only
"""The filesystem that holds the destination's image has no room for all of it: whatever is lost,
and whenever the kernel tells, no clone is called good, and none can be taken for one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from lab import MIB, Lab, call


def source_of(lab: Lab, *options: str) -> Path:
    image = lab.image("source.img", 64 * MIB)
    tree = lab.folder / "tree"
    tree.mkdir()
    for number in range(60):
        (tree / f"file-{number}").write_bytes(os.urandom(300 * 1000))
    call("mke2fs", "-q", "-F", *options, "-d", tree, image)
    return image


@pytest.mark.parametrize("engine", ["files", "blocks"])
@pytest.mark.parametrize("options", [("-t", "ext4", "-O", "^has_journal"), ("-t", "ext2")], ids=str)
def test_no_clone_is_good_that_is_not(lab: Lab, options: tuple[str, ...], engine: str) -> None:
    source = source_of(lab, *options)
    name = call("blkid", "-p", "-o", "value", "-s", "UUID", source).strip()
    small = lab.folder / "small"
    small.mkdir()
    statuses = set()
    for room in range(16_500, 18_700, 500):
        target = lab.folder / "copy.img"
        run = lab.within(
            f"mount -t tmpfs -o size={room * 1000} none {small}\n"
            f"truncate -s {64 * MIB} {small}/target.img\n"
            f"{sys.executable} -m bsync {source} {small}/target.img --engine {engine}\n"
            f"status=$?; cp --sparse=always {small}/target.img {target}; exit $status"
        )
        statuses.add(run.status)
        found = call("blkid", "-p", "-o", "export", target, ok=(0, 2))
        if run.status == 0:
            call("e2fsck", "-f", "-n", target)
            lab.bsync("verify", source, target)
        else:
            assert run.status == 5, run
            assert f"UUID={name}" not in found, (room, found, run)
    assert 5 in statuses


def test_a_host_that_has_room_by_a_hair(lab: Lab) -> None:
    """A loop device takes a write of which only the beginning arrived for all of it."""
    source, target = source_of(lab, "-t", "ext4"), lab.image("target.img", 64 * MIB)
    lab.bsync("--engine", "files", source, target)
    taken, small = target.stat().st_blocks * 512, lab.folder / "small"
    small.mkdir()
    for spare, status in ((600 * 1024, 5), (4 * MIB, 0)):
        run = lab.within(
            f"mount -t tmpfs -o size={taken + spare} none {small}\n"
            f"truncate -s {64 * MIB} {small}/target.img\n"
            f"{sys.executable} -m bsync {source} {small}/target.img --engine files\n"
        )
        assert run.status == status, run
        assert ("is full: the image takes" in run.err) == (status == 5), run
