# SPDX-License-Identifier: GPL-2.0-only
"""DOS partition tables as sfdisk(8) scripts.  Pure."""

from __future__ import annotations

from collections.abc import Iterable

from bsync.model.layout import Disk, Extent, Partition


def script(disk: Disk, placed: Iterable[tuple[Partition, Extent]]) -> str:
    """The script for a table like that of `disk`, with each partition at its new extent."""
    head = ["label: dos", f"label-id: {disk.table.identifier}", "unit: sectors"]
    lines = [_line(part, extent, disk.sector_size) for part, extent in placed]
    return "\n".join([*head, "", *lines, ""])


def _line(part: Partition, extent: Extent, sector: int) -> str:
    fields = [f"start={extent.start // sector}", f"size={extent.size // sector}"]
    fields.append(f"type={part.type}")
    fields += ["bootable"] if part.bootable else []
    return f"p{part.number} : {', '.join(fields)}"
