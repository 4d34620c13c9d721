# SPDX-License-Identifier: GPL-2.0-only
"""The blocks engine without the command around it, and what must hold after it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from lab import Lab, call

from bsync.acquire import block
from bsync.acquire.span import whole
from bsync.engines.blocks import engine, pair
from bsync.engines.blocks.engine import Copier
from bsync.engines.rsync import Transfer
from bsync.locate import DevicePath
from bsync.plan.steps import Way

IDLE = "done: 0 files, 0 bytes transferred"


@dataclass(frozen=True)
class Done:
    """What a copy did; `idle`: nothing differed, and nothing was written."""

    transfer: Transfer
    idle: bool


def copied(source: Path, target: Path, way: Way = Way.CHANGES) -> Done:
    """Clone the filesystem of one image to another of its size, or synchronise it."""
    with (
        block.opened(DevicePath(str(source)), writable=False) as here,
        block.opened(DevicePath(str(target)), writable=True) as there,
        pair.opened(whole(here), whole(there)) as both,
    ):
        copier = Copier(both, way)
        copier.prepare()
        copier.begin()
        done = copier.copy(lambda _: None)
        if not copier.idle:
            copier.complete()
    return Done(done, copier.idle)


def assert_same_blocks(source: Path, target: Path) -> None:
    """Every block in use is the same, the superblock but for its time too."""
    with (
        block.opened(DevicePath(str(source)), writable=False) as here,
        block.opened(DevicePath(str(target)), writable=False) as there,
        pair.opened(whole(here), whole(there), writable=False) as both,
    ):
        assert engine.same(both), "blocks in use differ"


def assert_clean(image: Path) -> None:
    """e2fsck -fn finds nothing."""
    call("e2fsck", "-f", "-n", image)


def synchronised(lab: Lab, source: Path, target: Path, *options: str) -> str:
    """What a run says; after it the mirror is one, and stays one."""
    said = lab.bsync(*options, source, target).out
    lab.bsync("verify", source, target)
    lab.bsync("verify", "--files", source, target)
    lab.assert_clean(target)
    assert IDLE in lab.bsync(*options, source, target).out
    return said


def blocks_of(image: Path) -> int:
    """How many blocks the filesystem has."""
    found = re.search(r"^Block count: +(\d+)", call("dumpe2fs", "-h", image), re.MULTILINE)
    assert found, image
    return int(found[1])
