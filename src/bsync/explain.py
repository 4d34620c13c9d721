# SPDX-License-Identifier: GPL-2.0-only
"""What steps are called; a `Plan` or a tree of volumes as plain data for JSON.  Pure."""

from __future__ import annotations

from typing import Any

from bsync.filesystems.kinds import by_blocks
from bsync.model.layout import (
    BOOT_PROGRAM,
    Content,
    Disk,
    Filesystem,
    Partition,
    Problem,
    Side,
    Swap,
    Unsupported,
    describe,
)
from bsync.plan.steps import (
    CompleteBlocks,
    CompleteFilesystem,
    CopyBlocks,
    CopyFiles,
    Copying,
    CopyRaw,
    Disarm,
    GrowExt,
    MakeFilesystem,
    MakeSwap,
    MarkBlocks,
    MarkFilesystem,
    Plan,
    SetTable,
    Step,
    Way,
    WriteBoot,
    WriteTable,
)
from bsync.units import size_text


def title(step: Step) -> str:
    """What a step does, in a few words."""
    match step:
        case Disarm() | WriteBoot():
            return f"boot code: {_boot_title(step)}"
        case WriteTable() | SetTable():
            how = "set what differs in" if isinstance(step, SetTable) else "write"
            return f"table: {how} the {step.kind} partition table"
        case MakeFilesystem(place=place, source=source) | MakeSwap(place=place, source=source):
            return f"{place.name}: make {describe(source)}"
        case MarkFilesystem(place=place):
            return f"{place.name}: mark as incomplete"
        case MarkBlocks() | CopyBlocks() | CompleteBlocks():
            return _blocks_title(step)
        case GrowExt(place=place, size=size):
            return f"{place.name}: grow to {size_text(size)}"
        case CopyFiles(place=place, fresh=fresh):
            return f"{place.name}: {'copy all files' if fresh else 'synchronise files'}"
        case CopyRaw(place=place, what=what):
            return f"{place.name}: copy {what} raw"
        case CompleteFilesystem(place=place):
            return f"{place.name}: finish: set UUID and label"


def preparation(step: Step) -> str:
    """What has to be looked at before the first step, if it may take a while."""
    match step:
        case CopyFiles(place=place):
            return f"{place.name}: look through the source's files"
        case CopyBlocks(place=place, way=Way.CHANGES):
            return f"{place.name}: look for what changed"
        case _:
            return ""


def _boot_title(step: Disarm | WriteBoot) -> str:
    match step:
        case Disarm():
            return "replace with a stub that refuses to boot"
        case WriteBoot(restores=restores):
            return "restore" if restores else "install the source's boot code"


def _blocks_title(step: MarkBlocks | CopyBlocks | CompleteBlocks) -> str:
    name = step.place.name
    match step:
        case MarkBlocks(way=Way.FRESH | Way.RESUME):
            return f"{name}: wipe signatures, mark as incomplete"
        case MarkBlocks(source=source, way=way, always=always):
            told = way is Way.COMPARE and by_blocks(source).SEARCHES
            if_needed = "" if always or told else " if it differs"
            return f"{name}: mark as incomplete{if_needed}"
        case CopyBlocks(source=source, fresh=fresh):
            return f"{name}: {'copy' if fresh else 'synchronise'} {describe(source)}"
        case CompleteBlocks(grow=grow):
            return f"{name}: {'grow, ' if grow else ''}finish: write superblock"


# --- plain data ---------------------------------------------------------------------------


def plan_data(plan: Plan) -> dict[str, Any]:
    """The plan as JSON's types."""
    return {
        "source": side_data(plan.source),
        "destination": side_data(plan.destination),
        "steps": [_step_data(step) for step in plan.steps],
        "destroys": list(plan.destroys),
        "notes": list(plan.notes),
        "cost": plan.cost,
    }


def _step_data(step: Step) -> dict[str, Any]:
    data: dict[str, Any] = {"do": type(step).__name__, "title": title(step)}
    data |= {"reason": step.reason, "cost": step.cost}
    place = getattr(step, "place", None)
    if place is not None:
        data["partition"] = place.number
        data["source"] = {"start": place.source.start, "size": place.source.size}
        data["destination"] = {"start": place.destination.start, "size": place.destination.size}
    if isinstance(step, Copying):
        data["engine"] = step.engine
    return data


def side_data(side: Side) -> dict[str, Any]:
    """What is on a device, as JSON's types; sizes in bytes."""
    layout = side.layout
    data: dict[str, Any] = {"name": side.word, "description": side.description}
    data |= {"size": layout.size, "sector_size": layout.sector_size}
    if not isinstance(layout, Disk):
        return data | {"content": _content_data(layout.content)}
    table = layout.table
    return data | {
        "table": table.kind,
        "identifier": table.identifier,
        "boot_code": any(table.boot_code[:BOOT_PROGRAM]),
        "gap": table.gap.size,
        "incomplete": table.incomplete,
        "partitions": [_partition_data(part) for part in table.partitions],
    }


def _partition_data(part: Partition) -> dict[str, Any]:
    data: dict[str, Any] = {"number": part.number, "type": part.type, "bootable": part.bootable}
    data |= {"start": part.extent.start, "size": part.extent.size}
    data |= {"uuid": part.uuid, "name": part.name} if part.uuid else {}
    return data if part.is_extended else data | {"content": _content_data(part.content)}


def _content_data(content: Content) -> dict[str, Any]:
    data: dict[str, Any] = {"kind": describe(content)}
    if isinstance(content, Unsupported) and content.problem is not Problem.NONE:
        data |= {"type": content.type, "problem": content.problem.name.lower()}
    if isinstance(content, Filesystem | Swap):
        data = {"kind": "swap" if isinstance(content, Swap) else content.kind}
        data |= {"uuid": content.uuid, "label": content.label}
    if isinstance(content, Filesystem):
        data |= {"size": content.size, "used": content.used, "clean": content.clean}
        data["features"] = sorted(content.superblock.features)
    return data
