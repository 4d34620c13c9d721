# SPDX-License-Identifier: GPL-2.0-only
"""Partitions that shrink to fit a smaller disk."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import builders
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bsync.errors import Refused
from bsync.filesystems.kinds import kind_of
from bsync.model.layout import Disk, Extent, Filesystem, Partition, Swap
from bsync.plan.fit import fitted
from bsync.units import MIB


def least(part: Partition) -> int:
    """What a partition may shrink to."""
    if isinstance(part.content, Filesystem):
        kind = kind_of(part.content)
        files = [kind.files.smallest(part.content)] if kind.files else []
        blocks = [kind.blocks.smallest(part.content)] if kind.blocks else []
        return min([part.extent.size, *files, *blocks])
    return part.extent.size


@st.composite
def shifted_disks(draw: st.DrawFn) -> Disk:
    """As old partitioning tools left them: at and of any number of sectors."""
    disk = draw(builders.disks())
    by = draw(st.integers(0, 2047)) * 512
    parts = [
        dataclasses.replace(
            part,
            extent=Extent(
                part.extent.start + by,
                part.extent.size - (draw(st.integers(0, 600)) * 512 if not part.is_extended else 0),
            ),
        )
        for part in disk.table.partitions
    ]
    larger = dataclasses.replace(disk, extent=Extent(0, disk.size + MIB))
    return builders.having(larger, partitions=tuple(parts))


@given(shifted_disks(), st.fractions(0, 1))
@settings(max_examples=500)
def test_what_is_fitted_keeps_every_rule(disk: Disk, share: float) -> None:
    assume(disk.table.filled)
    size = int(disk.size * share) // MIB * MIB
    try:
        placed = fitted(disk, size)
    except Refused:
        return
    assert [part for part, _ in placed] == list(disk.table.partitions)
    extended = [extent for part, extent in placed if part.is_extended]
    filled = [(part, extent) for part, extent in placed if not part.is_extended]
    dos = disk.table.kind == "dos"
    first = min(part.extent.start for part in disk.table.filled)
    for part, extent in filled:
        assert extent.start % 512 == extent.size % 512 == 0
        assert extent.start % MIB == 0 or extent.start == first, "neither aligned nor the first"
        assert extent.end <= size, "beyond the disk"
        assert least(part) <= extent.size <= part.extent.size
        logical = dos and part.number > 4
        for outer in extended:
            inside = outer.start < extent.start and extent.end <= outer.end
            outside = extent.end <= outer.start or outer.end <= extent.start
            assert inside if logical else outside
            assert not logical or extent.start - outer.start >= MIB, "no room for its record"
    assert all(outer.end <= size for outer in extended)
    for (_, one), (_, other) in pairwise(sorted(filled, key=lambda pair: pair[1].start)):
        assert one.end <= other.start, "they overlap"
    for is_logical in (False, True):
        group = [pair for pair in filled if (dos and pair[0].number > 4) == is_logical]
        by_source = sorted(group, key=lambda pair: pair[0].extent.start)
        assert by_source == sorted(group, key=lambda pair: pair[1].start), "another order"


@given(builders.disks())
@settings(max_examples=200)
def test_a_disk_with_room_for_all_takes_all(disk: Disk) -> None:
    room = disk.table.end + (3 * len(disk.table.partitions) + 3) * MIB
    for part, extent in fitted(disk, room):
        if not part.is_extended:
            assert extent.size == part.extent.size


def test_what_is_left_goes_to_those_that_lose() -> None:
    one, other = builders.ext(), builders.ext()
    swap = Swap(builders.UUID, "")
    disk = builders.dos(
        builders.part(1, 1, 512, one), builders.part(2, 513, 1024, other),
        builders.part(3, 1537, 64, swap), size=2000 * MIB,
    )  # fmt: skip
    (_, first), (_, second), (_, third) = fitted(disk, 1000 * MIB)
    assert third.size == 64 * MIB, "swap keeps its size"
    assert first.size < second.size
    assert first.size + second.size + third.size >= 990 * MIB, "room is left over"


def test_both_figures_are_said() -> None:
    disk = builders.dos(builders.part(1, 1, 512, Swap(builders.UUID, "")), size=600 * MIB)
    with pytest.raises(Refused, match=r"needs 515 MiB, the destination has 100 MiB"):
        fitted(disk, 100 * MIB)
