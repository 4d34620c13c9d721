"""Copies of ours, settled: what a machine left in the middle of its work is finished.

Only for a device that is ours to write: the snapshot of a volume in use, whose filesystems'
journals are as a power cut would leave them.
"""

from __future__ import annotations

from bsync.acquire.block import Device
from bsync.acquire.tree import loop_over
from bsync.errors import Unavailable
from bsync.filesystems.ext import blockwise, superblock
from bsync.filesystems.kinds import kind_of
from bsync.layout import Bare, Disk, Extent, Filesystem, Side
from bsync.ledger import Ledger
from bsync.run import run

_UNTIMELY = 24 * 3600  # seconds


def settle(side: Side, device: Device, ledger: Ledger) -> bool:
    """Recover the journal of every filesystem on `device` that needs it; whether any did.

    Raises `Unavailable` where that is not enough.
    """
    waiting = [(extent, content) for extent, content in _filesystems(side) if not content.clean]
    for extent, content in waiting:
        with loop_over(ledger, device, extent, writable=True) as path:
            run(*kind_of(content).repairing(path), ok=(0, 1), failure=Unavailable)
    return bool(waiting)


def _filesystems(side: Side) -> list[tuple[Extent, Filesystem]]:
    match side.layout:
        case Bare(content=Filesystem() as content):
            return [(side.extent, content)]
        case Disk(table=table):
            return [
                (part.extent, part.content)
                for part in table.filled
                if isinstance(part.content, Filesystem)
            ]
    return []
