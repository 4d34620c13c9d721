# SPDX-License-Identifier: GPL-2.0-only
"""The steps that make the destination a clone of the source.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from bsync.bootcode import is_disarmed
from bsync.errors import Refused
from bsync.filesystems import marker
from bsync.model.layout import (
    BIOS_BOOT,
    BOOT_PROGRAM,
    Blank,
    Content,
    Disk,
    Filesystem,
    Partition,
    Side,
    Volume,
    describe,
)
from bsync.plan import overwriting
from bsync.plan.contents import Steps, content_steps
from bsync.plan.notes import disk_notes
from bsync.plan.steps import (
    CopyBlocks,
    CopyFiles,
    Disarm,
    Options,
    Place,
    Plan,
    SetTable,
    Step,
    WriteBoot,
    WriteTable,
)
from bsync.plan.tables import Decision, check_boot, decide, present
from bsync.units import both_sizes, count_text, size_text


@dataclass
class _Draft:
    """A plan being made."""

    steps: list[Step] = field(default_factory=list)
    destroys: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    places: list[Place] = field(default_factory=list)

    def add(self, more: Steps) -> None:
        self.steps += more.steps
        self.destroys += more.destroys
        self.notes += more.notes


def make_plan(source: Side, destination: Side, options: Options) -> Plan:
    """The plan that makes `destination` a clone of `source`.  Raises `Refused`."""
    for side in (source, destination):
        _check_free(side)
    draft = _Draft()
    match source.layout:
        case Disk() as disk:
            _plan_disk(draft, disk, destination.layout, options)
        case Volume(content=content):
            _plan_bare(draft, source, destination, content, options)
    _check_sectors(draft.steps, source.layout, destination.layout)
    ordered = sorted(draft.steps, key=lambda step: step.phase)
    draft.notes += _room_note(destination, sum(step.cost for step in ordered))
    return Plan(
        source, destination, tuple(ordered), tuple(draft.destroys), tuple(draft.notes),
        tuple(draft.places),
    )  # fmt: skip


def _room_note(destination: Side, cost: int) -> list[str]:
    """A warning, and no refusal: holes, compression and what is the same already may save room."""
    if destination.room is None or cost <= destination.room:
        return []
    need, have = both_sizes(cost, destination.room)
    return [f"{destination.word} may come to need {need}; the filesystem that holds it has {have}"]


def _check_free(side: Side) -> None:
    """Raise `Refused` where a filesystem is said to be mounted on another machine.  What is
    marked is ours: a run that was cut off had it mounted."""
    for name, content in _contents(side):
        if isinstance(content, Filesystem) and content.elsewhere and not marker.is_marked(content):
            raise Refused(
                f"{side.word}: {name} is mounted on another machine (mmp)",
                "if that crashed, and no machine has it mounted: tune2fs -f -E clear_mmp",
            )


def _contents(side: Side) -> list[tuple[str, Content]]:
    """All contents of a side, by the names of their places."""
    return [
        (f"partition {volume.path[-1]}" if volume.path else "whole device", volume.content)
        for volume in side.layout.leaves()
    ]


def _check_sectors(steps: list[Step], source: Volume, destination: Volume) -> None:
    """Raise `Refused` where a filesystem has smaller blocks than the disk that it is to be
    mounted on has sectors."""
    for step in (step for step in steps if isinstance(step, CopyFiles | CopyBlocks)):
        unit = step.source.superblock.unit
        for role, disk in (("source", source), ("destination", destination)):
            if unit < disk.sector_size:
                raise Refused(
                    f"{step.place.name} has blocks of {unit} bytes, and the {role} has sectors "
                    f"of {disk.sector_size}: such a filesystem cannot be mounted there",
                )


def _plan_bare(
    draft: _Draft, source: Side, destination: Side, content: Content, options: Options
) -> None:
    if isinstance(content, Blank) and not options.raw:
        raise Refused(f"{source.word} holds neither a table nor a filesystem: nothing to clone")
    there = destination.layout.content
    if isinstance(destination.layout, Disk):
        draft.destroys.append(_whole_table(destination.layout))
        there = Blank()
    place = Place(0, source.extent, destination.extent)
    draft.places.append(place)
    draft.add(content_steps(place, content, there, options))


def _plan_disk(draft: _Draft, source: Disk, destination: Volume, options: Options) -> None:
    if is_disarmed(source.table.boot_code):
        raise Refused("the source is itself an incomplete clone", "complete it first")
    decision = decide(source, destination)
    check_boot(source, destination, decision)
    if decision.write is None:
        draft.notes.append(f"table: {decision.reason}")
        draft.steps += [decision.settings] if decision.settings else []
    else:
        draft.steps.append(decision.write)
        draft.destroys += _replaced(destination, decision)
    for part in source.table.filled:
        place = Place(part.number, part.extent, decision.extents[part.number])
        draft.places.append(place)
        there = present(destination, place.destination)
        steps = content_steps(place, part.content, there, _options(part, options))
        if _is_core_image(part) and decision.write is None:
            steps = replace(steps, destroys=())  # one core image for another is nobody's loss
        draft.add(steps)
    draft.notes += disk_notes(source, decision.extents, draft.steps)
    _plan_boot(draft, source, destination, decision)
    overwriting.check(draft.steps, destination, decision)


def _options(part: Partition, options: Options) -> Options:
    """The partition of GRUB's core image is boot code: copied as it is, unasked."""
    return Options(engine="raw") if _is_core_image(part) else options


def _is_core_image(part: Partition) -> bool:
    return part.type.upper() == BIOS_BOOT


def _replaced(destination: Volume, decision: Decision) -> list[str]:
    """What a new table takes away: all that does not stay just where it is."""
    match destination:
        case Disk() as disk:
            kept = set(decision.extents.values())
            lost = [part for part in _occupied(disk) if part.extent not in kept]
            return [f"the destination's {disk.table.kind} table", *map(_lost, lost)]
        case Volume(content=Blank()):
            return []
        case Volume(content=content):
            return [f"the destination: {describe(content)}, {size_text(destination.size)}"]


def _whole_table(disk: Disk) -> str:
    parts = count_text(len(disk.table.partitions), "partition")
    table = f"the destination's {disk.table.kind} table with {parts}"
    return ": ".join(filter(None, (table, "; ".join(map(_lost, _occupied(disk))))))


def _occupied(disk: Disk) -> list[Partition]:
    """The partitions in which there is something to be lost."""
    return [part for part in disk.table.filled if not isinstance(part.content, Blank)]


def _lost(part: Partition) -> str:
    return f"partition {part.number}: {describe(part.content)}, {size_text(part.extent.size)}"


def _plan_boot(draft: _Draft, source: Disk, destination: Volume, decision: Decision) -> None:
    """The boot code goes in last; a disk that could boot half-written is disarmed first."""
    here = source.table
    there = destination.table if isinstance(destination, Disk) and not decision.write else None
    copies = any(not isinstance(step, WriteTable | SetTable) for step in draft.steps)
    bootable = any(here.boot_code[:BOOT_PROGRAM])
    records = decision.write.records if decision.write else ()
    same_gap = not here.gap.ranges or (there is not None and there.beside == here.gap.digest)
    same_code = there.boot_code == here.boot_code if there else bool(records) and not bootable
    disarmed = there.incomplete if there else bool(records)
    if bootable and copies and not disarmed:
        draft.steps.append(Disarm("until the clone is complete"))
    if same_code and same_gap and not (bootable and copies):
        return
    restores = same_code and same_gap
    gap = () if same_gap else here.gap.ranges
    reason = "unchanged" if restores else "it differs"
    draft.steps.append(WriteBoot(here.boot_code, gap, reason, restores))
