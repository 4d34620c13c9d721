# SPDX-License-Identifier: GPL-2.0-only
"""What is asked of a kind's own structures, where there is a reader of them."""

from __future__ import annotations

from bsync.acquire.block import Device
from bsync.engines.blocks import directories, engine
from bsync.engines.blocks import pair as pairs
from bsync.errors import Damaged
from bsync.filesystems.ext.superblock import Ext
from bsync.filesystems.kinds import by_blocks
from bsync.layout import Extent, Filesystem
from bsync.plan.relation import began_as_blocks
from bsync.plan.steps import Place


def check_source(device: Device, extent: Extent, source: Filesystem) -> None:
    """Raise `Damaged` if what the files of `source` are found by is damaged: the kernel may show
    fewer of them, and say nothing."""
    if isinstance(source, Ext):
        directories.check_source(device, extent, source)


def same_blocks(
    place: Place,
    here: Filesystem,
    there: Filesystem,
    devices: tuple[Device, Device],
) -> bool | None:
    """Whether all blocks in use are the same; None where `there` is no clone of the blocks."""
    if not (here.clean and there.clean and began_as_blocks(here, there)):
        return None
    if by_blocks(here).obstacle(here, there.size, grow=False):
        return None
    with pairs.opened(
        devices[0], place.source, devices[1], place.destination, writable=False
    ) as pair:
        try:
            pairs.half(pair.destination)
        except Damaged:
            return False
        return engine.same(pair)
