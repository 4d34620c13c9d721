# SPDX-License-Identifier: GPL-2.0-only
"""A table for a disk that is too small for the source's: the same partitions, shrunk.  Pure.

Only filesystems shrink, by what they have to spare; swap and raw contents keep their size.
The order on the disk, the numbers, the types and the place of the first partition stay.
"""

from __future__ import annotations

from bsync.errors import Refused
from bsync.filesystems.kinds import kind_of
from bsync.model.layout import Disk, Extent, Filesystem, Partition
from bsync.units import MIB, both_sizes

Placed = tuple[tuple[Partition, Extent], ...]


def fitted(source: Disk, size: int) -> Placed:
    """Every partition of `source` with its extent on a disk of `size` bytes.

    Raises `Refused`, with both figures, where not even the least would fit.
    """
    parts = _in_order(source)
    first = min((part.extent.start for part in parts), default=MIB)
    room = size - first - _overhead(source, parts)
    least = [_least(part) for part in parts]
    if sum(least) > room:
        need, have = both_sizes(first + _overhead(source, parts) + sum(least), size)
        raise Refused(f"the source needs {need}, the destination has {have}")
    sizes = _shared_out(parts, least, room)
    return _placed(source, parts, sizes, first)


def _in_order(source: Disk) -> list[Partition]:
    """By place on the disk, but logical partitions among themselves by number: their order in
    the chain of records is what numbers them."""
    logical = [part for part in source.table.filled if _is_logical(source, part)]
    others = [part for part in source.table.filled if not _is_logical(source, part)]
    extended = [part for part in source.table.partitions if part.is_extended]
    at = extended[0].extent.start if extended else 0
    before = [part for part in others if part.extent.start < at or not extended]
    after = [part for part in others if part not in before]
    key = lambda part: part.extent.start  # noqa: E731
    return sorted(before, key=key) + sorted(logical, key=_number) + sorted(after, key=key)


def _number(part: Partition) -> int:
    return part.number


def _is_logical(source: Disk, part: Partition) -> bool:
    return source.table.kind == "dos" and part.number > 4


def _overhead(source: Disk, parts: list[Partition]) -> int:
    """Alignment of each partition, a record before each logical one, GPT's second copy."""
    logical = sum(_is_logical(source, part) for part in parts)
    second = source.table.gpt.tail if source.table.gpt else 0
    return (len(parts) + 2 * logical) * MIB + _up(max(second, 1))


def _least(part: Partition) -> int:
    """What it can do with, by whichever way."""
    if not isinstance(part.content, Filesystem):
        return part.extent.size
    kind, found = kind_of(part.content), [part.extent.size]
    if kind.files is not None and kind.files.writable(part.content):
        found.append(kind.files.smallest(part.content))
    if kind.blocks is not None and not part.content.unmapped:
        found.append(_up(kind.blocks.smallest(part.content)))
    return min(found)


def _shared_out(parts: list[Partition], least: list[int], room: int) -> list[int]:
    """The least for each, and what is left in proportion to what each loses."""
    spare = room - sum(least)
    lost = [part.extent.size - low for part, low in zip(parts, least, strict=True)]
    total = sum(lost)
    share = [loss * spare // total if total else 0 for loss in lost]
    return [
        min(part.extent.size, low + extra // MIB * MIB)
        for part, low, extra in zip(parts, least, share, strict=True)
    ]


def _placed(source: Disk, parts: list[Partition], sizes: list[int], first: int) -> Placed:
    result: dict[int, Extent] = {}
    at, inside = first, False
    begin = end = 0
    for part, size in zip(parts, sizes, strict=True):
        if _is_logical(source, part):
            begin = begin if inside else _up(at)
            at = (begin if not inside else at) + MIB
            inside = True
        start = at if not result and not inside else _up(at)
        result[part.number] = Extent(start, size)
        at = start + size
        end = at if _is_logical(source, part) else end
    for part in source.table.partitions:
        if part.is_extended:
            result[part.number] = Extent(begin, end - begin) if inside else _little(at)
    return tuple((part, result[part.number]) for part in source.table.partitions)


def _little(at: int) -> Extent:
    """An extended partition that has nothing in it still keeps its number."""
    return Extent(_up(at), MIB)


def _up(offset: int) -> int:
    return -(-offset // MIB) * MIB
