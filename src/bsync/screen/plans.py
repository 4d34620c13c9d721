# SPDX-License-Identifier: GPL-2.0-only
"""A plan as people read it before anything is destroyed.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from bsync.explain import title
from bsync.model.layout import Blank, Disk, Extent, Side, Volume, describe
from bsync.plan.steps import (
    Completing,
    CopyBlocks,
    CopyFiles,
    Copying,
    Plan,
    Step,
    WriteTable,
)
from bsync.screen.layouts import bar, contents
from bsync.screen.text import columns_of, wrapped
from bsync.units import both_sizes, printable, size_text


def plan_text(plan: Plan, width: int = 80) -> str:
    """The whole plan, with what it destroys."""
    return "\n".join([*plan_lines(plan, width), *destroyed_lines(plan, width)])


def plan_lines(plan: Plan, width: int) -> list[str]:
    """Both sides, what becomes of the destination's partitions, every step with its reason."""
    lines = [
        *_side("source", plan.source, width),
        *_side("destination", plan.destination, width),
        *_partitions(plan, width),
        "",
    ]
    for number, step in enumerate(plan.steps, 1):
        lines += _step(number, step, width)
    if not plan.steps:
        lines.append("nothing to do")
    for note in plan.notes:
        lines += wrapped(printable(f"note: {note}"), width, 6)
    return lines


def destroyed_lines(plan: Plan, width: int) -> list[str]:
    """What will be destroyed, after an empty line; none if nothing is."""
    if not plan.destroys:
        return []
    lines = ["", "This will destroy:"]
    for what in plan.destroys:
        lines += wrapped(printable(what), width, 4, begin="  ")
    return lines


def _side(role: str, side: Side, width: int) -> Iterator[str]:
    head = f"{role}: {side.word} ({side.description}, {size_text(side.layout.size)})"
    yield from wrapped(printable(head), width, 2)
    yield from (f"  {line}" for line in contents(side, width - 2))


def _step(number: int, step: Step, width: int) -> list[str]:
    amount = f", {_amount(step)}" if isinstance(step, Copying) else ""
    text = printable(f"{number:3}. {title(step)}{amount}")
    whole = printable(f"{text} ({step.reason})")
    if isinstance(step, Completing) and columns_of(whole) > width:
        return wrapped(text, width, 5)  # a UUID only where there is room
    return wrapped(whole, width, 5)


def _amount(step: Copying) -> str:
    bound = "" if isinstance(step, CopyFiles | CopyBlocks) and step.fresh else "at most "
    amount = f"{bound}{size_text(step.cost)}"
    return amount if step.engine == "raw" else f"{amount} by {step.engine}"


# --- partitions, before and after ---------------------------------------------------------


def _partitions(plan: Plan, width: int) -> Iterator[str]:
    source, there = plan.source.layout, plan.destination.layout
    if isinstance(source, Disk) and any(isinstance(step, WriteTable) for step in plan.steps):
        after = [
            (place.destination, f"{place.number} {_named(source, place.number)}")
            for place in plan.places
        ]
        yield ""
        yield bar(_present(there), there.size, width - 7, set(_lost(plan, there))).after("before ")
        yield bar(after, there.size, width - 7).after("after  ")
    changed = [
        place
        for place in plan.places
        if place.number and place.source.size != place.destination.size
    ]
    for place in changed:
        old, new = both_sizes(place.source.size, place.destination.size)
        how = "shrinks" if place.destination.size < place.source.size else "grows"
        yield from wrapped(f"{place.name} {how} from {old} to {new}", width, 2)


def _present(there: Volume) -> list[tuple[Extent, str]]:
    if not isinstance(there, Disk):
        return [(there.extent, describe(there.content))]
    return [(part.extent, f"{part.number} {describe(part.content)}") for part in there.table.filled]


def _lost(plan: Plan, there: Volume) -> Iterator[Extent]:
    """Where something is destroyed when a new table is written."""
    stays = {place.destination: f"{place.at_destination}:" for place in plan.places}
    found = (
        [(part.extent, part.content) for part in there.table.filled]
        if isinstance(there, Disk)
        else [(there.extent, there.content)]
    )
    for extent, content in found:
        name = stays.get(extent)
        goes = name is None or any(what.startswith(name) for what in plan.destroys)
        if goes and not isinstance(content, Blank):
            yield extent


def _named(source: Disk, number: int) -> str:
    part = source.table.partition(number)
    return describe(part.content) if part else ""
