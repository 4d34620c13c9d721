# SPDX-License-Identifier: GPL-2.0-only
"""A partition table that the destination keeps: what is set or repaired in it.  Pure."""

from __future__ import annotations

from dataclasses import replace

from bsync.model import gpt
from bsync.model.gpt import Gpt
from bsync.model.layout import BOOT_CODE, Disk, Partition
from bsync.plan.steps import SetTable

_ACTIVE = 0x80  # the flag of a DOS partition that boots


def settings(source: Disk, destination: Disk) -> SetTable | None:
    """The step that makes the kept table boot what the source's does, and mends its copies."""
    kind = destination.table.kind
    here, there = source.table.gpt, destination.table.gpt
    if here and there:
        records, reason = _gpt(source, here, destination, there)
    else:
        records, reason = _active(source, destination), "the active partition is the source's"
    return SetTable(kind, reason, records) if records else None


def unlike(source: Disk, destination: Disk) -> list[str]:
    """What of a destination's table says or boots something else than the source's."""
    found = []
    for part in source.table.partitions:
        mate = destination.table.partition(part.number)
        if mate is not None:
            found += [f"partition {part.number} has {what}" for what in _differing(part, mate)]
    here, there = source.table.gpt, destination.table.gpt
    if here and there:
        found += [f"the partition table: {fault}" for fault in there.faults]
        found += ["the protective MBR differs"] if _protective(here) != _protective(there) else []
        found += ["the disk has another GUID"] if here.guid != there.guid else []
    return found


def _differing(part: Partition, mate: Partition) -> list[str]:
    facts = (
        ("another active flag", part.bootable, mate.bootable),
        ("another PARTUUID", part.uuid, mate.uuid),
        ("another name", part.name, mate.name),
        ("other attributes", part.attributes, mate.attributes),
    )
    return [what for what, one, other in facts if one != other]


# --- GPT ----------------------------------------------------------------------------------


def _gpt(source: Disk, here: Gpt, destination: Disk, there: Gpt) -> tuple[gpt.Records, str]:
    changed = {}
    for part in source.table.partitions:
        mine, other = here.entry(part.number), there.entry(part.number)
        if gpt.with_identity(other, mine) != other:
            changed[part.number] = gpt.with_identity(other, mine)
    same_disk = here.guid == there.guid and _protective(here) == _protective(there)
    if not changed and same_disk and not there.faults:
        return (), ""
    mbr = there.mbr[:BOOT_CODE] + here.mbr[BOOT_CODE:]
    wanted = replace(there.with_entries(changed), guid=here.guid, mbr=mbr)
    reasons = [*there.faults]
    if changed or not same_disk:
        reasons.append("PARTUUIDs, attributes and names are the source's")
    return gpt.records(wanted, destination.size), "; ".join(reasons)


def _protective(table: Gpt) -> bytes:
    """The protective MBR's entries, but for the size of the disk."""
    return gpt.protective(table, 1 << 60)


# --- DOS ----------------------------------------------------------------------------------


def _active(source: Disk, destination: Disk) -> gpt.Records:
    """The entries of the records in which an active flag differs."""
    found = []
    for at, record in destination.table.records:
        entries = bytearray(record[BOOT_CODE:])
        for index in range(4):
            part = _partition(destination, at, record, index)
            mate = source.table.partition(part.number) if part else None
            if part and mate and part.bootable != mate.bootable:
                entries[16 * index] ^= _ACTIVE
        if bytes(entries) != record[BOOT_CODE:]:
            found.append((at + BOOT_CODE, bytes(entries)))
    return tuple(found)


def _partition(disk: Disk, at: int, record: bytes, index: int) -> Partition | None:
    """The partition that an entry of the record at `at` describes; none if it is a link."""
    entry = record[BOOT_CODE + 16 * index :][:16]
    start = at + int.from_bytes(entry[8:12], "little") * disk.sector_size
    if at == 0:
        return disk.table.partition(index + 1)
    logical = (part for part in disk.table.filled if part.number > 4)
    return next((p for p in logical if index == 0 and p.extent.start == start), None)
