# SPDX-License-Identifier: GPL-2.0-only
"""ReiserFS 3.6, as the stages ask for it: see `Kind`.  Pure."""

from __future__ import annotations

from bsync.filesystems.kind import Kind, much_lost
from bsync.filesystems.reiserfs import by_files, superblock
from bsync.filesystems.reiserfs.superblock import Reiser

REACH = superblock.OFFSET + superblock.SIZE
_BEGINNING = 64 * 1024  # bytes that are left to a boot loader


def read(name: str, data: bytes) -> Reiser:
    """See `Kind`."""
    return Reiser(name, superblock.parse(data[superblock.OFFSET :]), any(data[:_BEGINNING]))


def emptied(source: Reiser, there: Reiser) -> str:
    """See `Kind`.  A ReiserFS does not count its files, so this goes by their size."""
    here, present = (
        max(0, one.used - by_files.overhead(one.superblock, one.superblock.blocks))
        for one in (source, there)
    )
    return much_lost(here, present)


def tuning(content: Reiser) -> object:
    """See `Kind`."""
    return content.superblock.format


REISERFS = Kind(
    names=("reiserfs",),
    reach=REACH,
    read=read,
    emptied=emptied,
    tuning=tuning,
    files=by_files,
)
