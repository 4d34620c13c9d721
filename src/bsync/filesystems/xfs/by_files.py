# SPDX-License-Identifier: GPL-2.0-only
"""XFS by its files, onto what is smaller: see `ByFiles`.  Pure.

It is made with the source's UUID, which its blocks then have, and gets the marker's at once:
xfs_db notes the one in the blocks (META_UUID), and forgets that again when the other returns.  So
a finished clone is as if mkfs.xfs had just made it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bsync.filesystems import marker
from bsync.filesystems.kind import Command, Obstacle, Trial, smallest_for
from bsync.filesystems.xfs.superblock import Superblock, Xfs
from bsync.units import GIB, MIB, both_sizes

PROGRAMS = ("mkfs.xfs", "xfs_db", "xfs_repair")

_SMALLEST = 300 * MIB  # of mkfs.xfs from 5.19 on
_LOG = 64 * MIB, 2 * GIB  # the least and most that mkfs.xfs makes
_LABEL = 12  # bytes
_RESERVED = 32 * MIB  # what the kernel keeps back, at most; 5 % of what is smaller
_FEW_GROUPS = 4  # as without stripes
_METADATA = 40  # a part of so many is kept for trees that grow


def obstacle(source: Xfs) -> Obstacle | None:
    """See `ByFiles`."""
    if not source.superblock.clean:
        hint = "mount and unmount it once; bsync does not write to a source"
        return Obstacle(": it was not cleanly unmounted", hint)
    if source.unmapped:
        return Obstacle(f": {source.unmapped}", "--engine raw copies it byte by byte")
    return None


def writable(there: Xfs) -> bool:
    """See `ByFiles`."""
    return not there.superblock.problem


def needed(source: Xfs, size: int) -> int:
    """See `ByFiles`.  A sixteenth is added for what is laid out anew."""
    contents = max(0, source.used - source.superblock.log_size)
    kept = min(size // 20, _RESERVED) + size // _METADATA
    log = min(max(size >> 11, _LOG[0]), _LOG[1])
    return max(_SMALLEST, contents + contents // 16 + log + kept + MIB)


def fits(source: Xfs, size: int) -> bool:
    """See `ByFiles`."""
    return size >= source.size or needed(source, size) <= size


def fits_into(source: Xfs, there: Xfs) -> bool:
    """See `ByFiles`."""
    return fits(source, there.size)


def smallest(source: Xfs) -> int:
    """See `ByFiles`."""
    return smallest_for(lambda size: needed(source, size), _SMALLEST)


def completed(there: Xfs) -> int | None:
    """See `ByFiles`: not known, but not before it was made."""
    return there.superblock.born // 10**9 or None


def unlike(source: Xfs, there: Xfs) -> str:
    """See `ByFiles`."""
    one, other = source.superblock, there.superblock
    if differ := one.features ^ other.features:
        return f"features ({', '.join(sorted(differ))})"
    sizes = ("block_size", "sector_size", "inode_size", "directory_size")
    names = [name for name in sizes if getattr(one, name) != getattr(other, name)]
    return ", ".join(name.replace("_", " ") for name in names)


def making(source: Xfs, size: int, device: str) -> Command:
    """See `ByFiles`.  What stood there was given back before (`-K`)."""
    return ["mkfs.xfs", "-q", "-f", "-K", *_arguments(source, size), device]


def trying(source: Xfs, size: int, file: str) -> Command:
    """See `ByFiles`."""
    return ["mkfs.xfs", "-q", "-f", "-N", *_arguments(source, size), file]


def _arguments(source: Xfs, size: int) -> list[str]:
    sb = source.superblock
    uuid, parent = f"crc=1,uuid={source.uuid}", [",parent=1"] if "parent" in sb.features else []
    exchange = [",exchange=1"] if "exchange" in sb.features else []
    metadata = _switches(sb, "finobt", "rmapbt", "reflink", "bigtime", "inobtcount")
    inodes = f"size={sb.inode_size},maxpct={sb.percent}" + _switches(sb, "sparse", "nrext64")
    return [
        "-L", marker.SHORT_LABEL, "-b", f"size={sb.block_size}", "-s", f"size={sb.sector_size}",
        "-m", uuid + metadata, "-i", "".join([inodes, *exchange]),
        "-n", "".join([f"size={sb.directory_size}", *parent]), "-d", _stripe(sb, size),
    ]  # fmt: skip


def _switches(sb: Superblock, *names: str) -> str:
    return "".join(f",{name}={int(name in sb.features)}" for name in names)


def _stripe(sb: Superblock, size: int) -> str:
    """Over stripes mkfs.xfs makes many groups: of a small place too small ones for its log."""
    unit, width = sb.stripe
    if not unit or width % unit:
        return "noalign"
    groups = f",agcount={_FEW_GROUPS}" if size < _FEW_GROUPS * GIB else ""
    return f"su={unit},sw={width // unit}{groups}"


def marking(source: Xfs, present: Xfs, device: str) -> Command:
    """See `ByFiles`."""
    label = _labelling(marker.SHORT_LABEL)
    return [*_DB, "-c", f"uuid {marker.marker_uuid(source.uuid)}", *label, device]


def repairing(device: str, *, anything: bool) -> Command:
    """See `ByFiles`: the kernel does it when it mounts it, and nothing else can."""
    return []


def checking(device: str, *, writable: bool) -> Command:
    """See `ByFiles`."""
    return ["xfs_repair", "-n", device]


def completing(source: Xfs, present: Xfs, device: str) -> list[Command]:
    """See `ByFiles`: nothing but its names can be tuned."""
    return []


def unmarking(source: Xfs, present: Xfs, device: str) -> list[Command]:
    """See `ByFiles`."""
    return [
        [*_DB, "-c", f"uuid {source.uuid}", device],
        [*_DB, *_labelling(source.label), device],
    ]


_DB = ("xfs_db", "-x")


def _labelling(label: str) -> list[str]:
    """In hexadecimal, since xfs_db reads a label as a part of its command."""
    written = label.encode("utf-8", "surrogateescape")[:_LABEL].ljust(_LABEL, b"\0").hex()
    return ["-c", "sb 0", "-c", f"write fname #{written}"]


def mount_options(present: Xfs, *, writable: bool) -> list[str]:
    """See `ByFiles`.  The other side may have the same UUID."""
    return ["nouuid", *([] if writable else ["norecovery"])]


def trial(source: Xfs) -> Trial | None:
    """See `ByFiles`: who mounts the source can write one of its make."""
    return None


def grown(source: Xfs, there: Xfs, size: int) -> int:
    """See `ByFiles`: it is made anew."""
    return 0


def most_names(there: Xfs, lengths: Sequence[int]) -> int | None:
    """See `ByFiles`."""
    return None


def shortage(source: Xfs, there: Xfs) -> tuple[str, str]:
    """See `ByFiles`."""
    return both_sizes(needed(source, there.size), there.size)
