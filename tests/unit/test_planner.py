# SPDX-License-Identifier: GPL-2.0-only
"""Whole plans, for anything that two surveys may find."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import builders
import pytest
from builders import bare, dos, ext, part, side
from hypothesis import given, settings
from hypothesis import strategies as st

from bsync.bootcode import disarmed
from bsync.errors import Refused
from bsync.explain import plan_data, side_data, title
from bsync.model import layout
from bsync.model.layout import BIOS_BOOT, BOOT_PROGRAM, Blank, Disk, Side, Swap, Unsupported
from bsync.plan import Options, Plan, Step, make_plan
from bsync.plan.steps import (
    CompleteBlocks,
    CompleteFilesystem,
    CopyBlocks,
    CopyFiles,
    CopyRaw,
    Disarm,
    GrowExt,
    MakeFilesystem,
    MakeSwap,
    MarkBlocks,
    MarkFilesystem,
    SetTable,
    WriteBoot,
    WriteTable,
)
from bsync.screen.layouts import layout_text
from bsync.screen.plans import plan_text

BOOT = b"\xeb\x63 boot loader"
WIDE = 10_000  # columns: no line is wrapped
OPTIONS = st.builds(
    Options, st.sampled_from(("auto", "files", "raw")), st.booleans(), st.booleans()
)


def plan_or_none(source: Side, destination: Side, options: Options) -> Plan | None:
    try:
        return make_plan(source, destination, options)
    except Refused:
        return None


def places(plan: Plan, *kinds: type) -> list[int]:
    """The partitions that steps of these kinds are about, in order."""
    return [step.place.number for step in plan.steps if isinstance(step, kinds)]  # type: ignore[union-attr]


def order(plan: Plan) -> Iterator[tuple[int, Step]]:
    ranks: dict[type, int] = {
        WriteTable: 0, SetTable: 0, Disarm: 1,
        MakeFilesystem: 2, MarkFilesystem: 2, MarkBlocks: 2, MakeSwap: 2,
        GrowExt: 3,
        CopyFiles: 4, CopyBlocks: 4, CopyRaw: 4, CompleteFilesystem: 5, CompleteBlocks: 5,
        WriteBoot: 6,
    }  # fmt: skip
    return ((ranks[type(step)], step) for step in plan.steps)


@given(builders.cases())
@settings(max_examples=300)
def test_marks_come_first_and_what_boots_comes_last(case: tuple[Side, Side, Options]) -> None:
    source, destination, options = case
    plan = plan_or_none(source, destination, options)
    if plan is None:
        return
    ranks = [rank for rank, _ in order(plan)]
    assert ranks == sorted(ranks)
    for kind in (WriteTable, Disarm, WriteBoot):
        assert sum(isinstance(step, kind) for step in plan.steps) <= 1
    assert (
        sorted(places(plan, CopyFiles))
        == sorted(places(plan, MakeFilesystem, MarkFilesystem))
        == sorted(places(plan, CompleteFilesystem))
    )
    assert (
        sorted(places(plan, CopyBlocks))
        == sorted(places(plan, MarkBlocks))
        == sorted(places(plan, CompleteBlocks))
    )
    written = places(plan, CopyFiles, CopyBlocks, CopyRaw, MakeSwap)
    assert len(set(written)) == len(written), "a partition is written once"


@given(builders.cases())
@settings(max_examples=300)
def test_what_would_boot_half_written_is_disarmed_first(case: tuple[Side, Side, Options]) -> None:
    source, destination, options = case
    plan = plan_or_none(source, destination, options)
    if plan is None or not isinstance(source.layout, Disk):
        return
    there = destination.layout
    boots = any(source.layout.table.boot_code[:BOOT_PROGRAM])
    writes = [
        step
        for step in plan.steps
        if not isinstance(step, WriteTable | SetTable | WriteBoot | Disarm)
    ]
    if boots and writes:
        table = next((step for step in plan.steps if isinstance(step, WriteTable)), None)
        already = isinstance(there, Disk) and there.table.incomplete and table is None
        in_table = table is not None and any(
            record.startswith(disarmed()) for _, record in table.records
        )
        assert already or in_table or any(isinstance(step, Disarm) for step in plan.steps)
    code = there.table.boot_code if isinstance(there, Disk) else b""
    for step in plan.steps:
        match step:
            case WriteTable(records=((_, record), *_)):
                code = record[:446]
            case Disarm():
                code = disarmed()
            case WriteBoot():
                code = step.boot_code
    assert code == source.layout.table.boot_code, "the result would not boot as the source does"


@given(builders.cases())
@settings(max_examples=300)
def test_nothing_is_destroyed_unsaid(case: tuple[Side, Side, Options]) -> None:
    source, destination, options = case
    plan = plan_or_none(source, destination, options)
    if plan is None:
        return
    there = destination.layout
    if there == layout.bare(there.size, there.sector_size, Blank()):
        assert not plan.destroys, "a blank destination needs no answer"
    table = any(isinstance(step, WriteTable) for step in plan.steps)
    if isinstance(there, Disk) and (table or not isinstance(source.layout, Disk)):
        assert plan.destroys, "its table"
    if not isinstance(there, Disk) and not isinstance(there.content, Blank) and table:
        assert plan.destroys, "what it holds"
    said = "\n".join(plan.destroys)
    if isinstance(there, Disk) and not table:
        for number in places(plan, MakeFilesystem):
            mate = there.table.partition(number)
            if mate and not isinstance(mate.content, Blank | Swap):
                assert f"destination (partition {number})" in said


@given(builders.cases())
@settings(max_examples=300)
def test_every_plan_can_be_shown(case: tuple[Side, Side, Options]) -> None:
    source, destination, options = case
    for one in (source, destination):
        assert one.word in layout_text(one)
        json.dumps(side_data(one))
    plan = plan_or_none(source, destination, options)
    if plan is None:
        return
    text, data = plan_text(plan, WIDE), json.loads(json.dumps(plan_data(plan)))
    for number, step in enumerate(plan.steps, 1):
        assert f"{number:3}. {title(step)}" in text
        assert step.reason in text
    assert all(what in text for what in (*plan.destroys, *plan.notes))
    assert [step["title"] for step in data["steps"]] == [title(step) for step in plan.steps]
    assert data["cost"] == sum(step["cost"] for step in data["steps"]) == plan.cost
    assert data["destroys"] == list(plan.destroys)


@given(builders.sides("here.img", sound=True), OPTIONS)
@settings(max_examples=150)
def test_a_mirror_of_itself_loses_nothing(source: Side, options: Options) -> None:
    """The second run writes no table, makes no filesystem, and needs no answer."""
    twin = dataclasses.replace(source, word="there.img")
    plan = plan_or_none(source, twin, options)
    if plan is None:
        return
    makes = [
        step for step in plan.steps if isinstance(step, WriteTable | MakeFilesystem | MakeSwap)
    ]
    assert not makes
    unnamed = [step for step in plan.steps if isinstance(step, CopyRaw)]
    assert unnamed or not plan.destroys


@given(builders.cases())
@settings(max_examples=300)
def test_every_partition_ends_inside_the_destination(case: tuple[Side, Side, Options]) -> None:
    source, destination, _ = case
    plan = plan_or_none(source, destination, Options(raw=True))
    if plan is None:
        return
    for step in plan.steps:
        place = getattr(step, "place", None)
        if place is not None:
            assert 0 <= place.destination.start < place.destination.end <= destination.layout.size
            assert 0 <= place.source.start < place.source.end <= source.layout.size
            if isinstance(step, CopyRaw):
                assert place.destination.size >= place.source.size


# --- by hand ------------------------------------------------------------------------------


def planned(source: Side, destination: Side, **options: bool) -> Plan:
    return make_plan(source, destination, Options(**options))  # type: ignore[arg-type]


def test_a_source_without_anything_is_refused() -> None:
    with pytest.raises(Refused, match="nothing to clone"):
        planned(bare(), bare())


def test_an_incomplete_clone_is_no_source() -> None:
    with pytest.raises(Refused, match="incomplete clone"):
        planned(side(dos(part(1, 1, 8, ext()), boot=disarmed())), bare())


def test_a_filesystem_over_a_table_says_what_it_destroys() -> None:
    table = dos(part(1, 1, 8, Unsupported("ntfs")), part(2, 9, 8, Swap("u", "")))
    (said,) = planned(bare(ext()), side(table)).destroys
    assert "dos table with 2 partitions" in said
    assert "ntfs" in said


def test_partitions_that_stay_in_place_are_not_lost() -> None:
    """A new table over an old one: what is at the same extent is judged by its contents."""
    source = side(dos(part(1, 1, 64, ext()), part(2, 65, 8, Swap("u", ""))))
    there = side(dos(part(1, 1, 64, ext()), part(3, 80, 8, Unsupported("ntfs"))))
    plan = planned(source, there)
    assert any(isinstance(step, MarkBlocks) for step in plan.steps), "the mirror is used"
    assert plan.destroys == ("the destination's dos table", "partition 3: ntfs, 8 MiB")


def test_an_equal_clone_gets_its_boot_code_back() -> None:
    source = side(dos(part(1, 1, 64, ext()), boot=BOOT, gap=b"core"))
    plan = planned(source, source)
    assert [type(step) for step in plan.steps] == [
        Disarm, MarkBlocks, CopyBlocks, CompleteBlocks, WriteBoot,
    ]  # fmt: skip
    last = plan.steps[-1]
    assert isinstance(last, WriteBoot)
    assert last.gap == (), "it is there already"


def test_what_follows_the_boot_loader_is_the_destinations_own() -> None:
    """A second run does not find the same gap different again: only the source's is compared."""
    source = side(dos(part(1, 1, 64, ext()), gap=b"core"))
    remains = dos(part(1, 1, 64, ext()), gap=b"core and older remains")
    there = side(builders.having(remains, beside=b"core".hex()))
    assert not any(isinstance(step, WriteBoot) for step in planned(source, there).steps)
    other = side(dos(part(1, 1, 64, ext()), gap=b"else"))
    assert any(isinstance(step, WriteBoot) for step in planned(source, other).steps)


def test_a_core_image_over_another_needs_no_answer() -> None:
    """The second run of a disk that boots from a BIOS boot partition asks nothing."""
    core = dataclasses.replace(part(1, 1, 1, Unsupported()), type=BIOS_BOOT)
    source = side(dos(core, part(2, 2, 64, ext())))
    plan = planned(source, source)
    assert places(plan, CopyRaw) == [1]
    assert not plan.destroys


def test_nothing_to_copy_nothing_to_disarm() -> None:
    source = side(dos(boot=BOOT))
    assert not planned(source, source).steps
    plan = planned(source, side(dos()))
    assert [type(step) for step in plan.steps] == [WriteBoot]
    assert "nothing to do" in plan_text(planned(source, source))


def test_labels_cannot_forge_a_plan() -> None:
    forged = ext(label='x"\n  9. all is well\x1b[A')
    plan = planned(bare(forged), bare())
    assert len(plan_text(plan, WIDE).splitlines()) == len(
        plan_text(planned(bare(ext()), bare()), WIDE).splitlines()
    )
    assert "\x1b" not in plan_text(plan)


def test_blank_partitions_are_nobodys_loss() -> None:
    there = side(dos(part(1, 1, 32), part(2, 40, 32, Unsupported("ntfs"))))
    for source in (side(dos(part(3, 1, 128, ext()))), bare(ext())):
        said = "\n".join(make_plan(source, there, Options()).destroys)
        assert "dos table" in said
        assert "partition 2: ntfs" in said
        assert "partition 1" not in said


def test_why_a_table_is_written_is_said_once() -> None:
    text = plan_text(
        make_plan(side(dos(part(1, 1, 32, ext(blocks=4096)))), bare(), Options()), WIDE
    )
    assert text.count("the destination has no table") == 1
