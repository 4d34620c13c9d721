# SPDX-License-Identifier: GPL-2.0-only
"""What growing changes in an XFS, so that a grown clone is known to be its source's.  Pure.

xfs_growfs gives the last allocation group the rest of its length, as free space, and adds groups.
It writes copies of the first superblock over all others, and to the headers and free-space trees
of that group; mounting for it, to the log and the first superblock.

Format: fs/xfs/libxfs/xfs_format.h of Linux (`xfs_dsb`, `xfs_agf`, `xfs_agi`); big-endian.
"""

from __future__ import annotations

from collections.abc import Iterable

from bsync.filesystems.kind import BadSuperblock
from bsync.filesystems.xfs import log, space, superblock
from bsync.filesystems.xfs.superblock import Superblock
from bsync.model.allocation import Read, Run, Unknown
from bsync.model.arrays import Numbers

_LEAST_GROUP = 64  # blocks; xfs_growfs adds no smaller one
_HEADERS = 4  # sectors of a group: superblock, AGF, AGI, AGFL
# (offset, bytes) of what growing sets: lengths and counts, and the sequence numbers and checksums
# of what is written.
_SUPERBLOCK = ((8, 8), (88, 4), (128, 24), (176, 2), (224, 4), (240, 8))
_AGF = ((12, 4), (52, 8), (208, 12))
_AGI = ((12, 4), (312, 4), (320, 8))


def grown(sb: Superblock, size: int) -> int:
    """The blocks that `sb` has once it fills `size` bytes; those that it has, if there is no room
    for more."""
    blocks = size // sb.block_size
    rest = blocks % sb.group_blocks
    return max(sb.blocks, blocks - rest if rest < _LEAST_GROUP else blocks)


def only_growth(here: Read, sb: Superblock, there: Read, blocks: Numbers) -> bool:
    """Whether a clone that differs from its source `sb` in these `blocks`, and has more of them,
    was grown and is otherwise the same."""
    try:
        larger = superblock.parse(there(0, superblock.SIZE))
        if larger.problem or larger.blocks <= sb.blocks or not _alike_outside(here, there, sb):
            return False
        log.check_empty(there, larger)
        touched = {*_headers(sb), *_log(sb), *space.nodes(here, sb, sb.groups - 1)}
        free, freed = (space.free(*side, sb.groups - 1) for side in ((here, sb), (there, larger)))
    except (Unknown, BadSuperblock):
        return False
    added = (sb.group_length(sb.groups - 1), larger.group_length(sb.groups - 1))
    return set(blocks.tolist()) <= touched and _with(free, *added) == freed


def _alike_outside(here: Read, there: Read, sb: Superblock) -> bool:
    """Whether the first superblock and the other headers of all groups are the same but for what
    growing sets.  The other superblocks, for repairs alone, are then copies of the first."""
    for group in range(sb.groups):
        start, last = group * sb.group_blocks * sb.block_size, group == sb.groups - 1
        masks = (_SUPERBLOCK, _AGF if last else (), _AGI if last else (), ())
        for number, mask in enumerate(masks):
            if group and not number:
                continue
            at = start + number * sb.sector_size
            if _masked(here(at, sb.sector_size), mask) != _masked(there(at, sb.sector_size), mask):
                return False
    return True


def _masked(data: bytes, fields: Iterable[tuple[int, int]]) -> bytes:
    for offset, width in fields:
        data = data[:offset] + bytes(width) + data[offset + width :]
    return data


def _headers(sb: Superblock) -> Iterable[int]:
    """The blocks with the headers of all groups."""
    count = -(-_HEADERS * sb.sector_size // sb.block_size)
    for group in range(sb.groups):
        yield from range(group * sb.group_blocks, group * sb.group_blocks + count)


def _log(sb: Superblock) -> Iterable[int]:
    first = sb.log_start // sb.block_size
    return range(first, first + sb.log_size // sb.block_size)


def _with(free: list[Run], begin: int, end: int) -> list[Run]:
    """The free extents with those from `begin` to `end`, which come last."""
    if begin == end:
        return free
    if free and sum(free[-1]) == begin:
        return [*free[:-1], (free[-1][0], end - free[-1][0])]
    return [*free, (begin, end - begin)]
