# SPDX-License-Identifier: GPL-2.0-only
"""Which blocks of an XFS are in use: all but what its free-space trees have.  Pure.

Every allocation group records its free extents twice, in a B+tree by block and in one by size,
and counts their blocks in its header; the superblock has the sum.  All of these have to agree,
or nothing is claimed: a block that is wrongly taken for free would be missing from a copy.
What is in neither tree is taken to be in use, the few blocks of the free lists among them.

Format: fs/xfs/libxfs/xfs_format.h of Linux (`xfs_agf`, `xfs_btree_block`, `xfs_alloc_rec`);
everything big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from bsync.filesystems.xfs import log
from bsync.filesystems.xfs.superblock import SECTOR, Superblock
from bsync.model.allocation import Allocation, Read, Run, Unknown, all_but

_DAMAGED = "its record of free space is damaged"
_MOST = 1 << 20  # free extents that are kept in memory: some hundred MiB
_DEEPEST = 9  # levels; the kernel's own limit
_MAGICS = b"AB3B", b"AB3C"  # of the trees by block and by size
_HEADER = 56  # bytes
_RECORD, _POINTER = 8, 4  # bytes


def allocation(read: Read, sb: Superblock) -> Allocation:
    """The blocks in use of the XFS `sb`.  Raises `Unknown`."""
    if sb.problem:
        raise Unknown(sb.problem)
    log.check_empty(read, sb)
    headers = [_header(read, sb, group) for group in range(sb.groups)]
    if sum(header.counted for header in headers) != sb.free_blocks:
        raise Unknown(_DAMAGED)
    return all_but(_free(read, sb, headers), sb.block_size, sb.blocks)


def free(read: Read, sb: Superblock, group: int) -> list[Run]:
    """The free extents of one group, in blocks of it.  Raises `Unknown`."""
    return _agreed(read, sb, _header(read, sb, group))


def nodes(read: Read, sb: Superblock, group: int) -> set[int]:
    """The blocks of the filesystem that the free-space trees of one group stand in.  Raises
    `Unknown`."""
    header, base = _header(read, sb, group), group * sb.group_blocks
    levels = (level for which in (0, 1) for level in _levels(read, sb, header, which))
    return {base + node for level in levels for node in level}


@dataclass(frozen=True)
class _Header:
    """What an allocation group says of its free space, in blocks."""

    group: int
    roots: tuple[int, int]  # of the trees by block and by size
    levels: tuple[int, int]
    free: int  # in the trees
    counted: int  # with the free list, and what the trees themselves take


def _header(read: Read, sb: Superblock, group: int) -> _Header:
    """Of an allocation group: `xfs_agf`, its second sector."""
    data = read(group * sb.group_blocks * sb.block_size + sb.sector_size, SECTOR)
    if len(data) != SECTOR or data[:8] != b"XAGF" + (1).to_bytes(4, "big"):
        raise Unknown(_DAMAGED)
    number, length, *roots = struct.unpack_from(">IIII", data, 8)
    levels = struct.unpack_from(">II", data, 28)
    listed, free, _, taken = struct.unpack_from(">IIII", data, 48)
    if number != group or length != sb.group_length(group) or max(levels) > _DEEPEST:
        raise Unknown(_DAMAGED)
    return _Header(group, (roots[0], roots[1]), levels, free, free + listed + taken)


def _free(read: Read, sb: Superblock, headers: list[_Header]) -> Iterator[Run]:
    """The free extents of the whole filesystem, in ascending order."""
    total = 0
    for header in headers:
        agreed = _agreed(read, sb, header)
        total += len(agreed)
        if total > _MOST:
            raise Unknown("its free space is in too many pieces")
        base = header.group * sb.group_blocks
        for first, count in agreed:
            yield base + first, count


def _agreed(read: Read, sb: Superblock, header: _Header) -> list[Run]:
    """The free extents of a group, of which both trees and the header say the same."""
    by_block = _extents(read, sb, header, 0)
    if by_block != sorted(_extents(read, sb, header, 1)):
        raise Unknown(_DAMAGED)
    if sum(count for _, count in by_block) != header.free:
        raise Unknown(_DAMAGED)
    length = sb.group_length(header.group)
    if any(first + count > length for first, count in by_block):
        raise Unknown(_DAMAGED)
    return by_block


def _levels(read: Read, sb: Superblock, header: _Header, which: int) -> Iterator[list[int]]:
    """The nodes of one tree of a group, level by level, from its root to its leaves."""
    nodes = [header.roots[which]]
    for level in range(header.levels[which] - 1, 0, -1):
        yield nodes
        children: list[int] = []
        for node in nodes:
            children += _children(sb, _node(read, sb, header.group, node, _MAGICS[which], level))
            _check_count(sb, header, len(children))
        if len(set(children)) != len(children):
            raise Unknown(_DAMAGED)
        nodes = children
    yield nodes


def _extents(read: Read, sb: Superblock, header: _Header, which: int) -> list[Run]:
    """What one tree of a group has, in its order."""
    leaves: list[int] = []
    for level in _levels(read, sb, header, which):
        leaves = level
    found: list[Run] = []
    for leaf in leaves:
        data = _node(read, sb, header.group, leaf, _MAGICS[which], 0)
        end = _HEADER + _count(sb, data, _RECORD) * _RECORD
        found += struct.iter_unpack(">II", data[_HEADER:end])
        _check_count(sb, header, len(found))
    return found


def _check_count(sb: Superblock, header: _Header, count: int) -> None:
    """Nodes and extents have a block each, of which a group has so many."""
    if count > sb.group_length(header.group):
        raise Unknown(_DAMAGED)
    if count > _MOST:
        raise Unknown("its free space is in too many pieces")


def _node(read: Read, sb: Superblock, group: int, block: int, magic: bytes, level: int) -> bytes:
    """One block of a tree, which has to say itself what it is."""
    if not 0 < block < sb.group_length(group):
        raise Unknown(_DAMAGED)
    at = (group * sb.group_blocks + block) * sb.block_size
    data = read(at, sb.block_size)
    if len(data) != sb.block_size or data[:6] != magic + level.to_bytes(2, "big"):
        raise Unknown(_DAMAGED)
    place, _, uuid, owner = struct.unpack_from(">QQ16sI", data, 16)
    if (place, uuid, owner) != (at // SECTOR, sb.block_uuid, group):
        raise Unknown(_DAMAGED)
    return data


def _children(sb: Superblock, data: bytes) -> tuple[int, ...]:
    """The nodes below: their addresses stand behind the room for all keys."""
    count = _count(sb, data, _RECORD + _POINTER)
    most = (sb.block_size - _HEADER) // (_RECORD + _POINTER)
    return struct.unpack_from(f">{count}I", data, _HEADER + most * _RECORD)


def _count(sb: Superblock, data: bytes, size: int) -> int:
    """How many entries of `size` bytes a node has."""
    (count,) = struct.unpack_from(">H", data, 6)
    if count * size > sb.block_size - _HEADER:
        raise Unknown(_DAMAGED)
    return int(count)
