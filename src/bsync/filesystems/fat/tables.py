# SPDX-License-Identifier: GPL-2.0-only
"""What the file allocation tables of a FAT filesystem tell: its clusters in use, its label.  Pure.

An entry that is not 0 belongs to a file or a directory; the clusters that are marked as bad are
not read.  Where the copies of the table differ, what any of them has in use is in use.

Format: Microsoft's "FAT: General Overview of On-Disk Format", 1.03.
"""

from __future__ import annotations

import numpy as np

from bsync.filesystems.fat.superblock import ENTRY, Superblock, name
from bsync.model import ranges
from bsync.model.allocation import Allocation, Read, Unknown
from bsync.model.arrays import Flags, Numbers

BAD = {12: 0xFF7, 16: 0xFFF7, 32: 0x0FFFFFF7}
_VOLUME, _LONG = 0x08, 0x0F  # attributes of the entry with the label, and of parts of long names
_CHAIN = 64  # clusters of a root directory that are looked through for the label


def allocation(read: Read, sb: Superblock) -> Allocation:
    """The sectors in use: all before the first cluster and behind the last one, and the clusters
    that some copy of the table has in use.  Raises `Unknown`."""
    used = np.zeros(sb.clusters, np.bool_)
    for number in range(sb.tables):
        entries = table(read, sb, number)[2:]
        used |= (entries != 0) & (entries != BAD[sb.width])
    chosen = ranges.of_bits(used, 0)
    start = np.concatenate([[0], sb.data + chosen.start * sb.cluster])
    length = np.concatenate([[sb.data], chosen.length * sb.cluster])
    rest = sb.data + sb.clusters * sb.cluster
    if rest < sb.sectors:
        start, length = np.append(start, rest), np.append(length, sb.sectors - rest)
    return Allocation(sb.sector_size, sb.sectors, ranges.of_runs(start, length))


def label(read: Read, sb: Superblock) -> str:
    """The label that stands in the root directory; that of the boot sector, if there is none."""
    if sb.width != 32:
        at = (sb.data - sb.root) * sb.sector_size
        found = _label_in(read(at, sb.root * sb.sector_size))
        return sb.label if found is None else found
    entries, cluster = table(read, sb, 0), sb.root_cluster
    for _ in range(_CHAIN):
        if not 2 <= cluster < len(entries):
            break
        at = (sb.data + (cluster - 2) * sb.cluster) * sb.sector_size
        found = _label_in(read(at, sb.cluster * sb.sector_size))
        if found is not None:
            return found
        cluster = int(entries[cluster])
    return sb.label


def table(read: Read, sb: Superblock, number: int) -> Numbers:
    """One copy of the table, an entry a cluster.  Raises `Unknown`."""
    count = sb.clusters + 2
    size = -(-count * sb.width // 8)
    data = read((sb.reserved + number * sb.table) * sb.sector_size, size)
    if len(data) != size:
        raise Unknown("its tables cannot be read")
    raw = np.frombuffer(data, np.uint8)
    if sb.width == 12:
        return _twelve(raw, count)
    if sb.width == 16:
        return raw.view("<u2").astype(np.int64)
    return (raw.view("<u4") & 0x0FFFFFFF).astype(np.int64)


def packed(sb: Superblock, entries: Numbers) -> bytes:
    """A table with these entries."""
    if sb.width == 32:
        return entries.astype("<u4").tobytes()
    if sb.width == 16:
        return entries.astype("<u2").tobytes()
    even, odd = entries[::2], entries[1::2]
    odd = np.append(odd, np.zeros(len(even) - len(odd), np.int64))
    three = np.stack([even & 0xFF, even >> 8 | (odd & 0xF) << 4, odd >> 4], axis=1)
    return three.astype(np.uint8).tobytes()


def _twelve(raw: np.ndarray[tuple[int], np.dtype[np.uint8]], count: int) -> Numbers:
    """Two entries in three bytes."""
    at = np.arange(count) * 3 // 2
    pairs = raw[at].astype(np.int64) | np.append(raw, 0)[at + 1].astype(np.int64) << 8
    odd: Flags = np.arange(count) % 2 == 1
    return np.where(odd, pairs >> 4, pairs & 0xFFF)


def _label_in(directory: bytes) -> str | None:
    for at in range(0, len(directory) - ENTRY + 1, ENTRY):
        entry = directory[at : at + ENTRY]
        if entry[0] == 0:
            return None
        if entry[0] != 0xE5 and entry[11] & _LONG != _LONG and entry[11] & _VOLUME:
            return name(entry[:11])
    return None
