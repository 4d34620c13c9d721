# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of the destination's partition table.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bsync.bootcode import disarmed
from bsync.errors import Refused
from bsync.filesystems.kinds import kind_of
from bsync.model import gpt
from bsync.model.layout import (
    BIOS_BOOT,
    BOOT_CODE,
    BOOT_PROGRAM,
    EXTENDED_TYPES,
    SIGNATURE_END,
    Blank,
    Content,
    Disk,
    Extent,
    Filesystem,
    Partition,
    Volume,
)
from bsync.plan.fit import Placed, fitted
from bsync.plan.kept import settings
from bsync.plan.script import script
from bsync.plan.steps import SetTable, WriteTable
from bsync.units import both_sizes


@dataclass(frozen=True)
class Decision:
    """Where each source partition goes, and the table to write first, if any; or what to set in
    the one that stays.  `table`: what the table itself then takes, as far as it is known."""

    extents: dict[int, Extent]
    write: WriteTable | None
    reason: str
    table: tuple[Extent, ...] = (Extent(0, SIGNATURE_END),)
    extended: frozenset[int] = frozenset()
    settings: SetTable | None = None


def decide(source: Disk, destination: Volume) -> Decision:
    """Keep the destination's table, copy the source's, or make a fitting one.

    Raises `Refused` where none is possible.
    """
    if isinstance(destination, Disk) and _compatible(source, destination):
        return _kept(source, destination, "the destination's table has room for every partition")
    if source.table.end + _tail(source) <= destination.size:
        return _copied(source, destination)
    if isinstance(destination, Disk) and _adoptable(source, destination):
        return _kept(source, destination, "the destination's table is smaller, but all files fit")
    return _made(source, destination)


def present(destination: Volume, extent: Extent) -> Content:
    """What the destination holds in just this extent; blank if no partition of it is there."""
    if not isinstance(destination, Disk):
        return Blank()
    found = (part for part in destination.table.filled if part.extent == extent)
    return next((part.content for part in found), Blank())


def check_boot(source: Disk, destination: Volume, decision: Decision) -> None:
    """Raise `Refused` if the source's boot loader could not work on the destination."""
    bootable = any(source.table.boot_code[:BOOT_PROGRAM])
    if bootable and source.sector_size != destination.sector_size:
        raise _other_sectors(source, destination)
    for part in source.table.filled:
        moved = decision.extents[part.number].start != part.extent.start
        if bootable and part.type.upper() == BIOS_BOOT and moved:
            raise Refused(
                f"the boot code points to partition {part.number} by sector, and the destination "
                "has it elsewhere",
                "use a larger destination"
                if decision.write
                else "let the table be copied: erase the destination's with wipefs -a",
            )


def _compatible(source: Disk, destination: Disk) -> bool:
    """Every source partition by number, of the same type and the same size or greater."""
    pairs = _pairs(source, destination)
    return pairs is not None and all(
        other.extent.size >= part.extent.size or part.is_extended for part, other in pairs
    )


def _adoptable(source: Disk, destination: Disk) -> bool:
    """As compatible, but filesystems may have less room if their files fit."""
    pairs = _pairs(source, destination)
    return pairs is not None and all(
        part.is_extended
        or other.extent.size >= part.extent.size
        or (isinstance(part.content, Filesystem) and _fits(part.content, other.extent.size))
        for part, other in pairs
    )


def _fits(content: Filesystem, size: int) -> bool:
    files = kind_of(content).files
    return files is not None and files.writable(content) and files.fits(content, size)


def _pairs(source: Disk, destination: Disk) -> list[tuple[Partition, Partition]] | None:
    if source.table.kind != destination.table.kind:
        return None
    pairs = []
    for part in source.table.partitions:
        other = destination.table.partition(part.number)
        if other is None or _type(other) != _type(part):
            return None
        pairs.append((part, other))
    return pairs


def _type(part: Partition) -> str:
    return "extended" if part.type in EXTENDED_TYPES else part.type.lower()


def _kept(source: Disk, destination: Disk, reason: str) -> Decision:
    extents = {part.number: part.extent for part in destination.table.partitions}
    wanted = {part.number for part in source.table.partitions}
    return Decision(
        {n: e for n, e in extents.items() if n in wanted},
        None,
        reason,
        destination.table.extents(destination.size),
        _extended(destination),
        settings(source, destination),
    )


def _copied(source: Disk, destination: Volume) -> Decision:
    """The source's table at the source's offsets, byte by byte where it is a DOS table."""
    if source.sector_size != destination.sector_size:
        raise _other_sectors(source, destination)
    extents = {part.number: part.extent for part in source.table.partitions}
    reason = "the destination's table differs" if isinstance(destination, Disk) else (
        "the destination has no table"
    )  # fmt: skip
    if source.table.gpt:
        placed = tuple((part, part.extent) for part in source.table.partitions)
        return _laid_out(source, source.table.gpt, placed, destination.size, reason)
    write = WriteTable(source.table.kind, reason, records=_disarmed(source, source.table.records))
    table = source.table.extents(destination.size)
    return Decision(extents, write, reason, table, _extended(source))


def _made(source: Disk, destination: Volume) -> Decision:
    if source.sector_size != destination.sector_size:
        raise _other_sectors(source, destination)
    placed = fitted(source, destination.size)
    need, have = both_sizes(source.table.end + _tail(source), destination.size)
    reason = f"the source's table needs {need}, the destination has {have}: partitions shrink"
    if source.table.gpt:
        return _laid_out(source, source.table.gpt, placed, destination.size, reason)
    write = WriteTable(source.table.kind, reason, script=script(source, placed))
    extents = {part.number: extent for part, extent in placed}
    return Decision(extents, write, reason, extended=_extended(source))


def _laid_out(source: Disk, table: gpt.Gpt, placed: Placed, size: int, reason: str) -> Decision:
    """The source's GPT for a disk of `size` bytes, with the partitions where they are placed."""
    extents = {part.number: extent for part, extent in placed}
    moved = {
        number: gpt.entry_at(table.entry(number), extent, table.sector)
        for number, extent in extents.items()
    }
    table = replace(table.with_entries(moved), primary=True)
    (_, entries), *copies = gpt.records(table, size)
    whole = _disarmed(source, ((0, source.table.boot_code[:BOOT_CODE] + entries), *copies))
    return Decision(extents, WriteTable("gpt", reason, whole), reason, table.extents(size))


def _disarmed(source: Disk, records: gpt.Records) -> gpt.Records:
    """The source's records, but with a boot program that says the clone is incomplete."""
    if not any(source.table.boot_code[:BOOT_PROGRAM]):
        return records
    (at, mbr), *others = records
    return ((at, disarmed() + mbr[BOOT_PROGRAM:]), *others)


def _extended(disk: Disk) -> frozenset[int]:
    return frozenset(part.number for part in disk.table.partitions if part.is_extended)


def _tail(source: Disk) -> int:
    return source.table.gpt.tail if source.table.gpt else 0


def _other_sectors(source: Disk, destination: Volume) -> Refused:
    return Refused(
        f"the source has sectors of {source.sector_size} bytes, the destination of "
        f"{destination.sector_size}: its table and boot code count in sectors",
        "partition the destination yourself, with every partition at least as large",
    )
