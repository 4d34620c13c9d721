# SPDX-License-Identifier: GPL-2.0-only
"""Nothing that the destination keeps is written over, whatever two tables look like."""

from __future__ import annotations

import builders
import pytest
from builders import dos, ext, gpt, part, side
from hypothesis import given, settings

from bsync.errors import Refused
from bsync.model.layout import Disk, Extent, Gap, Side
from bsync.plan import Options, Plan, make_plan
from bsync.plan.steps import Disarm, SetTable, WriteBoot, WriteTable
from bsync.units import MIB


def written(plan: Plan) -> list[tuple[int, Extent]]:
    """Every range that is written, with the number of the partition that it is for."""
    found = []
    for step in plan.steps:
        match step:
            case WriteTable(records=records) | SetTable(records=records):
                found += [(0, Extent(at, len(record))) for at, record in records]
            case Disarm():
                found.append((0, Extent(0, 440)))
            case WriteBoot(gap=gap):
                found += [(0, extent) for extent in (Extent(0, 446), *gap)]
            case _:
                found.append((step.place.number, step.place.destination))
    return found


@given(builders.tables())
@settings(max_examples=200)
def test_what_stays_is_not_written(sides: tuple[Side, Side]) -> None:
    source, destination = sides
    assert isinstance(source.layout, Disk)
    assert isinstance(destination.layout, Disk)
    try:
        plan = make_plan(source, destination, Options(raw=True))
    except Refused:
        return
    if any(isinstance(step, WriteTable) for step in plan.steps):
        return
    for number, extent in written(plan):
        assert 0 <= extent.start < extent.end <= destination.layout.size
        for part_ in destination.layout.table.partitions:
            apart = extent.end <= part_.extent.start or part_.extent.end <= extent.start
            assert apart or number == part_.number, (number, part_)


def test_a_partition_in_the_way_is_named() -> None:
    disk = dos(part(1, 20, 16, ext()), gap=b"core" * MIB)
    there = dos(part(1, 40, 16, ext()), part(2, 1, 16, ext(label="mine")))
    with pytest.raises(Refused, match=r'would overwrite partition 2 .*: ext4 "mine"'):
        make_plan(side(disk), side(there), Options())


def test_a_second_copy_that_has_no_room_is_refused() -> None:
    """The last partition of the destination reaches into the end, where a GPT is mended."""
    source = gpt(dos(part(1, 1, 16, ext())))
    there = gpt(dos(part(1, 1, 16, ext()), part(2, 20, 44), size=64 * MIB), 128, True, "damaged")
    with pytest.raises(Refused, match="the partition table would overwrite partition 2"):
        make_plan(side(source), side(there), Options())


def test_a_loader_where_the_destination_has_its_entries_is_refused() -> None:
    source = gpt(dos(part(1, 1, 16, ext())), 16)
    loader = Gap((Extent(8192, 4096),), "u-boot")
    source = builders.having(source, gap=loader)
    with pytest.raises(Refused, match="would overwrite the partition table"):
        make_plan(side(source), side(gpt(dos(part(1, 1, 16)))), Options())
