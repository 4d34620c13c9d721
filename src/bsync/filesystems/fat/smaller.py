# SPDX-License-Identifier: GPL-2.0-only
"""A FAT filesystem as it is on a smaller place.  Pure.

What lies beyond the new end moves to the first free clusters; all else stays where it is, and the
tables keep their size.  So directories keep their entries as they are (attributes, times, short
names, order) but for the clusters in them, and the same source always gives the same bytes.

Format: Microsoft's "FAT: General Overview of On-Disk Format", 1.03; little-endian.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bsync.filesystems.fat import superblock, tables
from bsync.filesystems.fat.superblock import ENTRY, Superblock
from bsync.filesystems.kind import Held
from bsync.model import ranges
from bsync.model.allocation import Read, Unknown
from bsync.model.arrays import Numbers

_DAMAGED = "its directories or tables are damaged"
_SPARE = 16  # clusters that stay free at least
_DELETED, _LONG, _VOLUME, _FOLDER = 0xE5, 0x0F, 0x08, 0x10
_INFO = b"RRaA", b"rrAa"  # of the sector that counts free clusters: at 0 and at 484
# Clusters; with fewer it would be of another width, or would be taken for that by some.
_LEAST = {12: 1, 16: superblock.MOST[12] + 1, 32: superblock.MOST[16] + 1}

Piece = tuple[int, bytes | int, int]  # (byte, what comes there or its byte at the source, size)


@dataclass(frozen=True)
class Smaller:
    """All that a clone gets: `pieces`, and last what is held back."""

    pieces: tuple[Piece, ...]
    held: Held


def clusters(sb: Superblock, size: int) -> int:
    """How many of its clusters have room in `size` bytes; 0: it cannot be made so small."""
    found = min(sb.clusters, (size // sb.sector_size - sb.data) // sb.cluster)
    return found if found >= _fewest(sb) else 0


def smallest(sb: Superblock) -> int:
    """Bytes of the smallest place that it can be made for."""
    return (sb.data + _fewest(sb) * sb.cluster) * sb.sector_size


def _fewest(sb: Superblock) -> int:
    used = max(0, sb.used // sb.sector_size - sb.data) // sb.cluster
    return min(sb.clusters, max(used + _SPARE, _LEAST[sb.width]))


def smaller(read: Read, sb: Superblock, size: int, start: int | None) -> Smaller:
    """`sb` on `size` bytes; `start` is where these begin on their disk, if they are part of one.
    Raises `Unknown`."""
    count = clusters(sb, size)
    table = _only_table(read, sb)
    moves = _moves(sb, table, count)
    small = replace(sb, sectors=sb.data + count * sb.cluster)
    folders = dict(_folders(read, sb, table, moves))
    root = folders.pop(0, b"")
    moved = _moved_table(sb, table, moves, count)
    free = int(np.count_nonzero(moved[2:] == 0))
    first = read(0, sb.reserved * sb.sector_size)
    reserved = _reserved(first, small, moves, free, start)
    held = [0, *([sb.backup] if sb.backup else [])]
    packed, size = tables.packed(sb, moved), sb.sector_size
    boot = tuple((at * size, reserved[at * size : (at + 1) * size]) for at in held)
    return Smaller(
        (*_before(small, reserved, packed, root), *_data(small, table, moves, folders)), boot
    )


def _only_table(read: Read, sb: Superblock) -> Numbers:
    found = [tables.table(read, sb, number) for number in range(sb.tables)]
    if any(not np.array_equal(found[0], other) for other in found[1:]):
        raise Unknown("the copies of its table differ")
    return found[0]


def _moves(sb: Superblock, table: Numbers, count: int) -> Numbers:
    """Where each cluster goes, counted from 2; 0 for those that nothing may lead to."""
    taken = (table != 0) & (table != tables.BAD[sb.width])
    beyond = np.flatnonzero(taken[count + 2 :]) + count + 2
    free = np.flatnonzero(table[2 : count + 2] == 0)[: len(beyond)] + 2
    if not count or len(free) < len(beyond):
        raise Unknown("its files need more clusters")
    moves = np.arange(len(table), dtype=np.int64)
    moves[count + 2 :] = 0
    moves[beyond] = free
    return moves


def _moved_table(sb: Superblock, table: Numbers, moves: Numbers, count: int) -> Numbers:
    """Chains lead on to where their clusters went; bad ones that are beyond the end are gone."""
    taken = np.flatnonzero((table != 0) & (table != tables.BAD[sb.width]))
    taken = taken[taken >= 2]
    following = table[taken]
    inside = (following >= 2) & (following < len(table))
    following[inside] = moves[following[inside]]
    if not following.all():
        raise Unknown(_DAMAGED)
    found = table[: count + 2].copy()
    found[moves[taken]] = following
    return found


def _chain(sb: Superblock, table: Numbers, first: int) -> list[int]:
    """The clusters of a directory."""
    found: list[int] = []
    while 2 <= first < len(table):
        found.append(first)
        first = int(table[first])
        if len(found) > sb.clusters:
            raise Unknown(_DAMAGED)
    if not found or first < tables.BAD[sb.width]:
        raise Unknown(_DAMAGED)
    return found


def _folders(
    read: Read, sb: Superblock, table: Numbers, moves: Numbers
) -> Iterator[tuple[int, bytes]]:
    """The directories as they come to be, by cluster (of the source); 0 is a root without any."""
    seen: set[int] = set()
    pending = [sb.root_cluster] if sb.width == 32 else []
    if sb.width != 32:
        data = read((sb.data - sb.root) * sb.sector_size, sb.root * sb.sector_size)
        yield 0, _moved_folder(data, sb, moves, pending, ended=[])
    while pending:
        chain, ended = _chain(sb, table, pending.pop()), list[bool]()
        if seen & set(chain):
            raise Unknown(_DAMAGED)
        seen.update(chain)
        for cluster in chain:
            data = read(_at(sb, cluster), sb.cluster * sb.sector_size)
            yield cluster, _moved_folder(data, sb, moves, pending, ended)


def _moved_folder(
    data: bytes, sb: Superblock, moves: Numbers, pending: list[int], ended: list[bool]
) -> bytes:
    """Part of a directory; adds the directories in it to `pending`."""
    found = bytearray(data)
    for at in range(0, len(data), ENTRY):
        entry = data[at : at + ENTRY]
        if entry[0] == 0 or ended:
            ended.append(True)
            break
        if entry[0] == _DELETED or entry[11] & _LONG == _LONG or entry[11] & _VOLUME:
            continue
        high, low = (int.from_bytes(entry[where : where + 2], "little") for where in (20, 26))
        cluster = low | (high << 16 if sb.width == 32 else 0)
        if cluster == 0:
            continue
        if not 2 <= cluster < len(moves) or not moves[cluster]:
            raise Unknown(_DAMAGED)
        if entry[11] & _FOLDER and entry[:2] not in (b". ", b".."):
            pending.append(cluster)
        struct.pack_into("<H", found, at + 26, int(moves[cluster]) & 0xFFFF)
        if sb.width == 32:
            struct.pack_into("<H", found, at + 20, int(moves[cluster]) >> 16)
    return bytes(found)


def _at(sb: Superblock, cluster: int) -> int:
    return (sb.data + (cluster - 2) * sb.cluster) * sb.sector_size


def _reserved(data: bytes, sb: Superblock, moves: Numbers, free: int, start: int | None) -> bytes:
    """What stands before the tables: the boot sectors say how large it is now."""
    found, size = bytearray(data), sb.sector_size
    for sector in (0, sb.backup) if sb.backup else (0,):
        at = sector * size
        if data[at + 510 : at + 512] != b"\x55\xaa":
            continue
        short = sb.width != 32 and sb.sectors < 1 << 16
        struct.pack_into("<H", found, at + 19, sb.sectors if short else 0)
        struct.pack_into("<I", found, at + 32, 0 if short else sb.sectors)
        if sb.width == 32:
            struct.pack_into("<I", found, at + 44, int(moves[sb.root_cluster]))
            _count(found, at + int.from_bytes(data[at + 48 : at + 50], "little") * size, free)
        if start is not None and sb.hidden is not None:
            found[at : at + 512] = superblock.placed(bytes(found[at : at + 512]), start // size)
    return bytes(found)


def _count(found: bytearray, at: int, free: int) -> None:
    """Write how many clusters are free, and that none is known to be the next."""
    if (bytes(found[at : at + 4]), bytes(found[at + 484 : at + 488])) == _INFO:
        struct.pack_into("<II", found, at + 488, free, 0xFFFFFFFF)


def _before(sb: Superblock, reserved: bytes, table: bytes, root: bytes) -> list[Piece]:
    """Everything before the first cluster, but for the boot sectors."""
    size = sb.sector_size
    whole = reserved + table.ljust(sb.table * size, b"\0") * sb.tables + root
    cuts = [0, *([sb.backup] if sb.backup else []), sb.data]
    return [
        ((first + 1) * size, whole[(first + 1) * size : last * size], (last - first - 1) * size)
        for first, last in itertools.pairwise(cuts)
        if last - first > 1
    ]


def _data(
    sb: Superblock, table: Numbers, moves: Numbers, folders: dict[int, bytes]
) -> Iterator[Piece]:
    """The clusters in use, runs of them together."""
    size = sb.cluster * sb.sector_size
    taken = (table != 0) & (table != tables.BAD[sb.width])
    taken[:2] = False
    for cluster, data in folders.items():
        if cluster:
            taken[cluster] = False
            yield _at(sb, int(moves[cluster])), data, size
    stay = ranges.of_blocks(np.flatnonzero(taken & (moves == np.arange(len(moves)))))
    for first, count in stay.pairs():
        yield _at(sb, first), _at(sb, first), count * size
    for cluster in np.flatnonzero(taken & (moves != np.arange(len(moves)))).tolist():
        yield _at(sb, int(moves[cluster])), _at(sb, cluster), size
