# SPDX-License-Identifier: GPL-2.0-only
"""What a user should know of a clone that the copy itself cannot put right.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bsync.model.layout import (
    BOOT_PROGRAM,
    Content,
    Disk,
    Extent,
    Filesystem,
    Unsupported,
    describe,
)
from bsync.plan.steps import CopyFiles, Place, Step

_LDM = "42"  # the DOS type of a dynamic disk of Windows


def raw_notes(place: Place, source: Content) -> tuple[str, ...]:
    """What does not hold any longer in contents that are copied as they are, elsewhere."""
    moved = place.source.start != place.destination.start
    says = isinstance(source, Unsupported | Filesystem) and source.lies_at == place.source.start
    if says and moved:
        what = f"the boot sector of {describe(source)} says where it lies (hidden sectors)"
        return (f"{place.name}: {what}; it is elsewhere on the clone, and may not boot there",)
    return ()


def behind_notes(place: Place, source: Filesystem) -> tuple[str, ...]:
    """What stands in a partition but not in its filesystem."""
    what = "what stands behind its filesystem, such as dm-verity hashes, is not copied"
    return (f"{place.name}: {what}",) if source.behind else ()


def disk_notes(source: Disk, extents: Mapping[int, Extent], steps: Iterable[Step]) -> list[str]:
    """What outside the partitions is not copied, or refers to what is elsewhere on the clone."""
    found = []
    if dynamic := [part.number for part in source.table.partitions if part.type == _LDM]:
        database = "the database of a Windows dynamic disk (LDM), in its last MiB"
        found.append(f"partition {dynamic[0]} has type 42: {database}, is not copied")
    moved = any(extents[part.number].start != part.extent.start for part in source.table.partitions)
    moved = moved or any(isinstance(step, CopyFiles) for step in steps)
    if moved and b"LILO" in source.table.boot_code[:BOOT_PROGRAM]:
        found.append("the boot code is LILO, which finds files by block number: run lilo on it")
    return found
