# SPDX-License-Identifier: GPL-2.0-only
"""What the first sector of a place says while contents are being made there.  Pure.

Between the first byte that a maker of filesystems writes and its last one, nothing names what
is there: whoever finds it after a run was cut off must take it for somebody's data.  So the
first sector is written beforehand, and says that it is ours and nothing is lost with it.

mke2fs erases the first two sectors unless a BSD disk label is there, which it knows by the
magic number at byte 64 of the first (misc/mke2fs.c, `zap_sector`); so that number is part of
the marker.  blkid does not look for it there, and the rest of a disk label is not.
"""

from __future__ import annotations

_MAGIC_AT = 64  # bytes; where mke2fs looks for a BSD disk label
_MAGIC = (0x82564557).to_bytes(4, "little")
_MESSAGE = b"bsync: contents were being made here. Run bsync again to complete them.\r\n"

SECTOR = (bytes(_MAGIC_AT) + _MAGIC + _MESSAGE).ljust(512, b"\0")


def is_begun(sector: bytes) -> bool:
    """Whether the first sector of a place is the marker of contents that are being made."""
    return sector[: len(SECTOR)] == SECTOR
