# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of the destination's partition table."""

from __future__ import annotations

import dataclasses

import builders
import pytest
from builders import bare, dos, ext, gpt, part

from bsync.bootcode import is_disarmed
from bsync.errors import Refused
from bsync.model import layout
from bsync.model.layout import BIOS_BOOT, Blank, Disk, Extent, Swap, Unsupported
from bsync.plan.tables import check_boot, decide, present
from bsync.units import MIB

BOOT = b"\xeb\x63 boot loader"


def test_a_compatible_table_is_kept() -> None:
    source = dos(part(1, 1, 64, ext()), part(2, 65, 8, Swap("u", "")))
    larger = dos(part(1, 4, 64), part(2, 100, 9), part(3, 120, 9), size=200 * MIB)
    decision = decide(source, larger)
    assert decision.write is None
    assert decision.extents == {1: Extent(4 * MIB, 64 * MIB), 2: Extent(100 * MIB, 9 * MIB)}


@pytest.mark.parametrize(
    "destination",
    [
        dos(part(2, 1, 64)),
        dos(part(1, 1, 64, type_="7")),
        dos(part(1, 1, 64, type_="5")),
        gpt(dos(part(1, 1, 64))),
    ],
)
def test_an_incompatible_table_is_replaced(destination: Disk) -> None:
    source = dos(part(1, 1, 64, ext()))
    decision = decide(source, destination)
    assert decision.write is not None
    assert decision.write.records == source.table.records
    assert decision.extents == {1: source.table.partitions[0].extent}


def test_the_kinds_of_extended_partitions_are_one() -> None:
    source = dos(part(1, 1, 64, ext(), type_="f"))
    assert decide(source, dos(part(1, 1, 1, type_="5"))).write is None


def test_a_smaller_table_is_adopted_if_the_whole_one_has_no_room() -> None:
    source = dos(part(1, 1, 200, ext()), size=256 * MIB)
    smaller = dos(part(1, 1, 64), size=100 * MIB)
    decision = decide(source, smaller)
    assert decision.write is None
    assert decision.extents[1].size == 64 * MIB
    roomy = dos(part(1, 1, 64), size=256 * MIB)
    assert decide(source, roomy).write is not None, "the source's own table has room"


def test_partitions_shrink_where_nothing_else_goes() -> None:
    source = dos(part(1, 1, 200, ext()), size=256 * MIB)
    decision = decide(source, bare(size=100 * MIB).layout)
    assert decision.write is not None
    assert decision.write.script.startswith("label: dos\nlabel-id: 0xdeadbeef\nunit: sectors")
    assert not decision.write.records
    assert decision.extents[1].end <= 100 * MIB


def test_the_end_of_the_table_is_what_counts() -> None:
    source = dos(part(1, 1, 63, ext()), size=256 * MIB)
    write = decide(source, bare(size=64 * MIB).layout).write
    assert write is not None
    assert write.records, "just large enough, byte for byte"
    tight = gpt(source)
    write = decide(tight, bare(size=64 * MIB).layout).write
    assert write is not None
    assert "partitions shrink" in write.reason, "no room for the second copy of a GPT"
    write = decide(tight, bare(size=64 * MIB + 33 * 512).layout).write
    assert write is not None
    assert "partitions shrink" not in write.reason


@pytest.mark.parametrize(("sector", "entries", "tail"), [(4096, 128, 5), (512, 256, 65)])
def test_the_second_copy_takes_as_many_sectors_as_its_entries(
    sector: int, entries: int, tail: int
) -> None:
    source = gpt(dos(part(1, 1, 63, ext()), sector=sector), entries)
    blank = layout.bare(64 * MIB + tail * sector, sector, Blank())
    write = decide(source, blank).write
    assert write is not None
    assert "partitions shrink" not in write.reason
    write = decide(source, layout.bare(blank.size - sector, sector, Blank())).write
    assert write is not None
    assert "partitions shrink" in write.reason


def test_a_table_that_boots_is_disarmed_as_it_is_written() -> None:
    source = dos(part(1, 1, 8, ext()), boot=BOOT)
    write = decide(source, bare(size=256 * MIB).layout).write
    assert write is not None
    ((at, record),) = write.records
    assert at == 0
    assert is_disarmed(record)
    assert record[440:] == source.table.records[0][1][440:], "signature and entries"


def test_other_sectors_are_refused_where_a_table_is_to_be_written() -> None:
    source = dos(part(1, 1, 8, ext()))
    blank = dataclasses.replace(dos(), sector_size=4096)
    with pytest.raises(Refused, match="sectors of 512 bytes, the destination of 4096"):
        decide(source, blank)
    tiny = dataclasses.replace(dos(), sector_size=4096, extent=Extent(0, 4 * MIB))
    with pytest.raises(Refused, match="sectors"):
        decide(source, tiny)
    partitioned = dos(part(1, 1, 8), sector=4096)
    assert decide(source, partitioned).write is None
    booting = dos(part(1, 1, 8, ext()), boot=BOOT)
    with pytest.raises(Refused, match="sectors"):
        check_boot(booting, partitioned, decide(booting, partitioned))


def test_a_core_image_is_found_by_its_sector() -> None:
    source = gpt(dos(part(1, 1, 1, Unsupported()), part(2, 2, 8, ext()), boot=BOOT))
    grub = dataclasses.replace(source.table.partitions[0], type=BIOS_BOOT)
    parts = (grub, source.table.partitions[1])
    source = builders.having(source, partitions=parts)
    moved = tuple(
        dataclasses.replace(p, extent=Extent(p.extent.start + MIB, p.extent.size)) for p in parts
    )
    there = builders.having(source, partitions=moved)
    with pytest.raises(Refused, match="points to partition 1 by sector"):
        check_boot(source, there, decide(source, there))
    check_boot(source, source, decide(source, source))


def test_contents_are_there_only_where_a_partition_is() -> None:
    there = dos(part(1, 1, 8, ext()))
    assert present(there, Extent(MIB, 8 * MIB)) == ext()
    assert present(there, Extent(MIB, 9 * MIB)) == Blank()
    assert present(bare(ext()).layout, Extent(0, 64 * MIB)) == Blank()
