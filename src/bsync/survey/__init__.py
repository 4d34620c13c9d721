# SPDX-License-Identifier: GPL-2.0-only
"""`Device` → `Volume`: what is on it, by the system's own tools.  Changes nothing.

Damage is not an error here: what cannot be relied on is `Unsupported` contents, named for what
is wrong with it, and the plan decides.
"""

from __future__ import annotations

from dataclasses import replace

from bsync.acquire.block import Device
from bsync.acquire.span import whole
from bsync.model.layout import Content, Disk, Problem, Side, Unsupported, Volume, bare
from bsync.survey.filesystem import content_of, signatures
from bsync.survey.gap import digest
from bsync.survey.table import BadTable, disk_of, has_entries

_TABLES = ("dos", "gpt")


def survey(device: Device, beside: Volume | None = None) -> Side:
    """What is on `device`, and if it is a disk what stands where the one `beside` has its gap.
    Raises `Unavailable` if it cannot be read at all."""
    layout = _layout(device)
    if isinstance(beside, Disk) and isinstance(layout, Disk):
        found = digest(device, beside.table.gap.ranges)
        layout = replace(layout, content=replace(layout.table, beside=found))
    return Side(device.word, device.description, layout, device.room)


def _layout(device: Device) -> Volume:
    found = signatures(whole(device))
    kind, table = found.get("TYPE", ""), found.get("PTTYPE", "")
    if table == "dos" and kind and not has_entries(device):
        table = ""  # the boot sector of a filesystem ends like an MBR
    if table and kind:
        return _bare(device, Unsupported(kind, problem=Problem.TABLE_TOO, details=(table,)))
    if table in _TABLES:
        try:
            return disk_of(device)
        except BadTable as error:
            return _bare(
                device, Unsupported(table, problem=Problem.TABLE_DAMAGED, details=(str(error),))
            )
    if table == "PMBR":
        return _bare(device, _headless(device))
    if table:
        return _bare(device, Unsupported(table, problem=Problem.TABLE))
    return _bare(device, content_of(whole(device), found))


def _headless(device: Device) -> Unsupported:
    """What a protective MBR without a GPT at its place may be."""
    for sector in (512, 4096):
        if sector != device.sector_size and device.read(sector, 8) == b"EFI PART":
            return Unsupported("gpt", problem=Problem.OTHER_SECTORS, details=(sector,))
    return Unsupported("gpt", problem=Problem.TABLE_MISSING)


def _bare(device: Device, content: Content) -> Volume:
    return bare(device.size, device.sector_size, content)
