# SPDX-License-Identifier: GPL-2.0-only
"""Copies of ours, settled: what a machine left in the middle of its work is finished.

Only for a device that is ours to write: the snapshot of a volume in use, whose filesystems'
journals are as a power cut would leave them.
"""

from __future__ import annotations

from bsync.acquire.block import Device
from bsync.acquire.span import Span
from bsync.acquire.tree import loop_over, recover
from bsync.errors import CopyFailed, Unavailable
from bsync.filesystems.kinds import kind_of
from bsync.ledger import Ledger
from bsync.model.layout import Extent, Filesystem, Side

_UNTIMELY = 24 * 3600  # seconds


def settle(side: Side, device: Device, ledger: Ledger) -> bool:
    """Recover the journal of every filesystem on `device` that needs it; whether any did.

    Raises `Unavailable` where that is not enough.
    """
    waiting = [
        (Span(device, extent), content)
        for extent, content in _filesystems(side)
        if kind_of(content).files is not None and (content.elsewhere or not content.clean)
    ]
    for span, content in waiting:
        with loop_over(ledger, span, writable=True) as path:
            _recover(ledger, path, content)
        _distrust(span, content)
    return bool(waiting)


def _recover(ledger: Ledger, path: str, content: Filesystem) -> None:
    try:
        recover(ledger, path, content, anything=False)
    except CopyFailed as error:
        raise Unavailable(error.message, error.hint) from None


def _distrust(span: Span, content: Filesystem) -> None:
    """Say in the superblock, which the clone gets, that it was written a day earlier.

    In a copy of a filesystem at work, times may be newer than the contents that they tell of:
    data is written up to half a minute later, and with lazytime half a day.  So a later
    synchronisation compares the contents of all that changed within that day.
    """
    kind = kind_of(content)
    if kind.backdated is None:
        return
    span.write(0, kind.backdated(span.read(0, kind.reach), _UNTIMELY))
    span.flush()


def _filesystems(side: Side) -> list[tuple[Extent, Filesystem]]:
    return [
        (volume.extent, volume.content)
        for volume in side.layout.leaves()
        if isinstance(volume.content, Filesystem)
    ]
