"""The blocks engine without the command around it, and what must hold after it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lab import call

from bsync.acquire import block
from bsync.engines.blocks import engine, pair
from bsync.engines.blocks.engine import Copier
from bsync.engines.rsync import Transfer
from bsync.layout import Extent
from bsync.locate import DevicePath
from bsync.plan.steps import Way


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
        pair.opened(here, Extent(0, here.size), there, Extent(0, there.size)) as both,
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
        pair.opened(
            here, Extent(0, here.size), there, Extent(0, there.size), writable=False
        ) as both,
    ):
        assert engine.same(both), "blocks in use differ"


def assert_clean(image: Path) -> None:
    """e2fsck -fn finds nothing."""
    call("e2fsck", "-f", "-n", image)
