# SPDX-License-Identifier: GPL-2.0-only
"""Partition tables: sfdisk(8) reads them; of a DOS table the records themselves are kept too.

Formats: the MBR and its chain of extended boot records (EBRs) as the kernel reads them
(block/partitions/msdos.c); GPT as in the UEFI specification, "GUID Partition Table (GPT)
Disk Layout".
"""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

from bsync.acquire.block import Device
from bsync.acquire.span import Span
from bsync.bootcode import is_disarmed
from bsync.errors import Unavailable
from bsync.model import gpt
from bsync.model.layout import (
    BOOT_CODE,
    EXTENDED_TYPES,
    SIGNATURE_END,
    Blank,
    Disk,
    Extent,
    Partition,
    Table,
)
from bsync.run import run
from bsync.survey.filesystem import content_of
from bsync.survey.gap import gap_of

_PROTECTIVE = f"{gpt.PROTECTIVE:x}"
_EIO = os.strerror(errno.EIO)
_MAX_LOGICAL = 256  # records; a longer chain is a loop or no table


class BadTable(ValueError):
    """The table cannot be relied on; the text says why."""


def disk_of(device: Device) -> Disk:
    """The disk with a DOS or GPT table that `device` holds.  Raises `BadTable`."""
    table = _table(device)
    _check(device, table)
    boot_code, gap = device.read(0, BOOT_CODE), gap_of(device, table)
    table = replace(table, boot_code=boot_code, gap=gap, incomplete=is_disarmed(boot_code))
    return Disk(Extent(0, device.size), device.sector_size, table)


def has_entries(device: Device) -> bool:
    """Whether the first sector, which ends like an MBR, has an entry that is one."""
    record = device.read(0, SIGNATURE_END)
    entries = (_entry(record, index, device.sector_size) for index in range(4))
    return any(kind != "0" and size for _, size, kind in entries)


def _table(device: Device) -> Table:
    facts = _sfdisk(device)
    try:
        sector = int(facts["sectorsize"])
        partitions = tuple(
            _partition(device, facts["device"], sector, row)
            for row in facts.get("partitions", [])
            if int(row["size"])
        )
        return Table(
            kind=facts["label"],
            identifier=facts["id"],
            partitions=partitions,
            records=_records(device, partitions) if facts["label"] == "dos" else (),
            gpt=_gpt(device, partitions) if facts["label"] == "gpt" else None,
        )
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        if isinstance(error, BadTable):
            raise
        raise BadTable("unexpected output from sfdisk") from None


def _gpt(device: Device, partitions: tuple[Partition, ...]) -> gpt.Gpt:
    """The table's own bytes.  Our reading must agree with sfdisk's."""
    try:
        found = gpt.read(device.read, device.size, device.sector_size)
    except gpt.BadGpt as error:
        raise BadTable(str(error)) from None
    if any(kind not in (0, gpt.PROTECTIVE) for kind in found.mbr[BOOT_CODE + 4 : -2 : 16]):
        raise BadTable("a hybrid MBR, whose partitions nothing keeps like those of the GPT")
    for part in partitions:
        entry = found.entry(part.number)
        if gpt.entry_at(entry, part.extent, device.sector_size) != entry:
            raise BadTable("bsync and sfdisk disagree on its partitions")
    return found


def _sfdisk(device: Device) -> dict[str, Any]:
    result = run("sfdisk", "--json", device.path, ok=(0, 1), failure=Unavailable)
    if _EIO in result.errors:
        raise Unavailable(f"{device.word} cannot be read: {_EIO}")
    try:
        _, brace, text = result.output.partition("{")  # such as "omitting empty partition"
        facts = json.loads(brace + text)["partitiontable"]
    except (ValueError, KeyError, TypeError):
        raise BadTable("sfdisk cannot read it") from None
    if not isinstance(facts, dict):
        raise BadTable("unexpected output from sfdisk")
    return facts


def _partition(device: Device, whole: str, sector: int, row: dict[str, Any]) -> Partition:
    number = _number(row["node"], whole)
    extent = Extent(int(row["start"]) * sector, int(row["size"]) * sector)
    if extent.start < 0 or extent.size <= 0 or extent.end > device.size:
        raise BadTable(f"partition {number} ends beyond the disk")
    kind = str(row["type"]).lower() if len(str(row["type"])) < 3 else str(row["type"])
    part = Partition(
        extent, device.sector_size, Blank(), (str(number),), kind, bool(row.get("bootable")),
        row.get("uuid", ""), row.get("name", ""), row.get("attrs", ""),
    )  # fmt: skip
    return part if part.is_extended else replace(part, content=content_of(Span(device, extent)))


def _number(node: str, whole: str) -> int:
    """sfdisk names partition 5 of a disk `…5` or `…p5`; of a mapped device, which it also calls
    by another name than it was given, `…-part5`."""
    if node.startswith(whole):
        match = re.fullmatch(r"p?([0-9]{1,3})", node.removeprefix(whole))
    else:
        match = re.search(r"(?:p|-part)([0-9]{1,3})$", node)
    if match is None:
        raise ValueError(node)
    return int(match[1])


def _records(device: Device, partitions: tuple[Partition, ...]) -> tuple[tuple[int, bytes], ...]:
    """The MBR and every EBR, by offset.  Our reading of the chain must agree with sfdisk's."""
    records = {0: device.read(0, SIGNATURE_END)}
    logical: list[tuple[int, int, int]] = []
    for extended in (part for part in partitions if part.is_extended and part.number < 5):
        _walk(device, extended.extent, records, logical)
    known = [(part.extent.start, part.extent.size) for part in partitions if part.number > 4]
    if [(start, size) for _, start, size in logical] != known:
        raise BadTable("bsync and sfdisk disagree on the chain of logical partitions")
    for number, (at, _, _) in enumerate(logical, 5):
        for part in partitions:
            inside = Extent(at, SIGNATURE_END).overlaps(part.extent)
            if inside and not part.is_extended:
                raise BadTable(f"the record of partition {number} lies in partition {part.number}")
    return tuple(sorted(records.items()))


def _walk(
    device: Device, extended: Extent, records: dict[int, bytes],
    logical: list[tuple[int, int, int]],
) -> None:  # fmt: skip
    """Follow the chain of EBRs in `extended`, adding to `records`, and to `logical` where each
    partition's record is, where it starts, and its size."""
    at = extended.start
    for _ in range(_MAX_LOGICAL):
        if at in records or not extended.start <= at < extended.end:
            raise BadTable("its chain of logical partitions has no end")
        record = device.read(at, SIGNATURE_END)
        if record[510:] != b"\x55\xaa":
            if at == extended.start and not any(record):
                return  # an extended partition without any record: nothing in it
            raise BadTable("a record of its logical partitions is damaged")
        records[at] = record
        (start, size, kind), (following, _, link) = (
            _entry(record, index, device.sector_size) for index in (0, 1)
        )
        if kind != "0" and size:
            logical.append((at, at + start, size))
        if link not in EXTENDED_TYPES:
            return
        at = extended.start + following
    raise BadTable(f"more than {_MAX_LOGICAL} logical partitions")


def _entry(record: bytes, index: int, sector: int) -> tuple[int, int, str]:
    """Start and size in bytes, and the type, of one 16-byte entry of a record."""
    entry = record[BOOT_CODE + 16 * index :][:16]
    start, size = (int.from_bytes(entry[at : at + 4], "little") * sector for at in (8, 12))
    return start, size, f"{entry[4]:x}"


def _check(device: Device, table: Table) -> None:
    """Partitions that overlap, or lie where they cannot, make a table unreliable."""
    if table.kind not in ("dos", "gpt"):
        raise BadTable(f"an unknown kind: {table.kind}")
    if any(part.type == _PROTECTIVE and table.kind == "dos" for part in table.partitions):
        raise BadTable("a protective MBR, and no GPT")
    extended = next((part for part in table.partitions if part.is_extended), None)
    for part in table.filled:
        if part.number > 4 and table.kind == "dos":
            outer = extended.extent if extended else Extent(0, 0)
            if not outer.start < part.extent.start <= part.extent.end <= outer.end:
                raise BadTable(f"logical partition {part.number} lies outside the extended one")
    primary = [p for p in table.partitions if p.number < 5 or table.kind == "gpt"]
    for group in (primary, list(table.filled)):
        ordered = sorted(group, key=lambda part: part.extent.start)
        if ordered and ordered[0].extent.start < device.sector_size:
            raise BadTable(f"partition {ordered[0].number} covers the table itself")
        for one, other in pairwise(ordered):
            if one.extent.end > other.extent.start:
                raise BadTable(f"partitions {one.number} and {other.number} overlap")
