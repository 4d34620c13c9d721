# SPDX-License-Identifier: GPL-2.0-only
"""Nothing that the destination keeps is written over.  Pure.

Every range that the steps of a plan write is compared with everything that is to stand on the
destination afterwards and is not theirs to write: partitions that the source does not have, other
partitions, and the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bsync.errors import Refused
from bsync.model.layout import BOOT_CODE, Disk, Extent, Volume, describe
from bsync.plan.steps import Disarm, SetTable, Step, WriteBoot, WriteTable
from bsync.plan.tables import Decision
from bsync.units import size_text

_GAP = "the boot loader and what else stands before the first partition of the source"


@dataclass(frozen=True)
class _Owned:
    """A range, and whose it is: a partition's number, or 0."""

    extent: Extent
    number: int
    name: str


def check(steps: Iterable[Step], destination: Volume, decision: Decision) -> None:
    """Raise `Refused` if one of `steps` would write over what is not its own."""
    kept = [*_partitions(destination, decision), *_table(destination, decision)]
    for step in steps:
        for written in _written(step):
            for other in kept:
                _compare(written, other)
            if written.extent.end > destination.size:
                raise Refused(f"{written.name} would end beyond the destination")


def _compare(written: _Owned, other: _Owned) -> None:
    same = written.number == other.number and bool(written.number)
    if same or not written.extent.overlaps(other.extent):
        return
    hint = "wipefs -a on the destination lets the source's table be copied"
    if written.name == _GAP:
        written_size = size_text(written.extent.size)
        raise Refused(f"{_GAP} ({written_size}) would overwrite {other.name}", hint)
    raise Refused(f"{written.name} would overwrite {other.name}", hint)


def _partitions(destination: Volume, decision: Decision) -> Iterator[_Owned]:
    """Every partition that the destination has in the end."""
    stays = destination.table.partitions if isinstance(destination, Disk) else ()
    for part in stays if decision.write is None else ():
        if not part.is_extended:
            what = f"partition {part.number} of the destination: {describe(part.content)}"
            yield _Owned(part.extent, part.number, what)
    if decision.write is not None:
        for number, extent in decision.extents.items():
            if number not in decision.extended:
                yield _Owned(extent, number, f"partition {number}")


def _table(destination: Volume, decision: Decision) -> Iterator[_Owned]:
    """The table that the destination has in the end, but for its boot code."""
    if not isinstance(destination, Disk) and decision.write is None:
        return
    for extent in decision.table:
        start = max(extent.start, BOOT_CODE)
        yield _Owned(Extent(start, extent.end - start), -1, "the partition table")


def _written(step: Step) -> Iterator[_Owned]:
    match step:
        case WriteTable(records=records) | SetTable(records=records):
            for at, record in records:
                yield _Owned(Extent(at, len(record)), -1, "the partition table")
        case Disarm():
            yield _Owned(Extent(0, step.cost), 0, "the boot code")
        case WriteBoot(boot_code=code, gap=gap):
            yield _Owned(Extent(0, len(code)), 0, "the boot code")
            yield from (_Owned(extent, 0, _GAP) for extent in gap)
        case _:
            place = step.place
            yield _Owned(place.destination, place.number, place.name)
