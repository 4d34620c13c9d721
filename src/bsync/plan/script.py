"""Partition tables as sfdisk(8) scripts.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from bsync.layout import Disk, Extent, Partition


def script(disk: Disk, placed: Iterable[tuple[Partition, Extent]]) -> str:
    """The script for a table like that of `disk`, with each partition at its new extent."""
    table, sector = disk.table, disk.sector_size
    head = [f"label: {table.kind}", f"label-id: {table.identifier}", "unit: sectors"]
    if table.kind == "gpt":
        head += [f"table-length: {table.entries}"] if table.entries else []
        head += [f"first-lba: {table.first_lba}"] if table.first_lba else []
    lines = [_line(part, extent, sector) for part, extent in placed]
    return "\n".join([*head, "", *lines, ""])


def _line(part: Partition, extent: Extent, sector: int) -> str:
    fields = [f"start={extent.start // sector}", f"size={extent.size // sector}"]
    fields.append(f"type={part.type}")
    fields += [f"uuid={part.uuid}"] if part.uuid else []
    fields += [f'name="{_escaped(part.name)}"'] if part.name else []
    fields += [f'attrs="{part.attributes}"'] if part.attributes else []
    fields += ["bootable"] if part.bootable else []
    return f"p{part.number} : {', '.join(fields)}"


def _escaped(name: str) -> str:
    """As sfdisk unquotes names: a quote, a backslash or a control character is \\xHH."""
    return "".join(c if c not in '"\\' and c.isprintable() else _hex(c) for c in name)


def _hex(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())
