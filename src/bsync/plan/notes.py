"""What a user should know of a clone that the copy itself cannot put right.  Pure."""

from __future__ import annotations

from bsync.layout import Content, Disk, Foreign
from bsync.plan.steps import Place

_LDM = "42"  # the DOS type of a dynamic disk of Windows


def raw_notes(place: Place, source: Content) -> tuple[str, ...]:
    """What does not hold any longer in contents that are copied as they are, elsewhere."""
    moved = place.source.start != place.destination.start
    if isinstance(source, Foreign) and source.lies_at == place.source.start and moved:
        what = f"the boot sector of its {source.kind} says where it is on the disk (hidden sectors)"
        return (f"{place.name}: {what}; it is elsewhere on the clone, and may not boot there",)
    return ()


def disk_notes(source: Disk) -> list[str]:
    """What stands outside the partitions and is not copied."""
    dynamic = [part.number for part in source.table.partitions if part.type == _LDM]
    if not dynamic:
        return []
    database = "the database of a Windows dynamic disk (LDM), in its last MiB"
    return [f"partition {dynamic[0]} has type 42: {database}, is not copied"]
