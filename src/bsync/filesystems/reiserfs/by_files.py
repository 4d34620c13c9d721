# SPDX-License-Identifier: GPL-2.0-only
"""ReiserFS 3.6 by its files: see `ByFiles`.  Pure.

mkreiserfs(8), reiserfstune(8) and reiserfsck(8) ask no question where `-f` is given twice,
`-f`, or `-y`.  Format 3.5 has neither UUID nor label, so that nothing could tell a clone of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from bsync.filesystems import marker
from bsync.filesystems.kind import Command, Obstacle, Trial, smallest_for
from bsync.filesystems.reiserfs import superblock
from bsync.filesystems.reiserfs.superblock import Reiser, Superblock
from bsync.units import MIB, both_sizes

PROGRAMS = ("mkreiserfs", "reiserfstune", "reiserfsck")

_LONG_AGO = "19700102"  # 0 is no time
_MOST_BLOCKS = (1 << 32) - 1
_TRIAL = ("mkreiserfs", "-q", "-f", "-f", "-b", "4096", "-s", "513", "--format", "3.6")
_RAW = "--engine raw copies the partition byte by byte"


def obstacle(source: Reiser) -> Obstacle | None:
    """See `ByFiles`."""
    sb = source.superblock
    if not sb.unmounted:
        return Obstacle(
            ": its reiserfs was not unmounted, so its journal may hold what its files lack",
            "mount and unmount it once; bsync does not write to a source",
        )
    if sb.faults:
        return Obstacle(": its reiserfs needs a check", "run reiserfsck on it")
    if sb.format != "3.6":
        return Obstacle(f" is a reiserfs of format {sb.format}, which has no UUID", _RAW)
    if sb.journal_device:
        return Obstacle(": its journal is on another device", _RAW)
    return None


def writable(there: Reiser) -> bool:
    """See `ByFiles`."""
    return there.superblock.format == "3.6" and not there.superblock.journal_device


def needed(source: Reiser, size: int) -> int:
    """See `ByFiles`.  An eighth is added for what is laid out anew: trees, and tails of files."""
    sb = source.superblock
    contents = max(0, sb.used - overhead(sb, sb.blocks))
    blocks = min(size // sb.block_size, _MOST_BLOCKS)
    return contents + contents // 8 + overhead(sb, blocks) + MIB


def fits(source: Reiser, size: int) -> bool:
    """See `ByFiles`."""
    return size >= source.size or needed(source, size) <= size


def fits_into(source: Reiser, there: Reiser) -> bool:
    """See `ByFiles`."""
    return fits(source, there.size)


def smallest(source: Reiser) -> int:
    """See `ByFiles`."""
    return smallest_for(lambda size: needed(source, size), MIB)


def completed(there: Reiser) -> int | None:
    """See `ByFiles`: it counts as checked then."""
    return there.superblock.checked or None


def unlike(source: Reiser, there: Reiser) -> str:
    """See `ByFiles`."""
    one, other = source.superblock, there.superblock
    if (one.block_size, one.hash) == (other.block_size, other.hash):
        return ""
    return f"its make (blocks of {other.block_size} bytes, hash {other.hash})"


def making(source: Reiser, size: int, device: str) -> Command:
    """See `ByFiles`."""
    sb = source.superblock
    command = ["mkreiserfs", "-q", "-f", "-f", "--format", sb.format, "-b", str(sb.block_size)]
    command += ["-u", marker.marker_uuid(source.uuid), "-l", marker.LABEL]
    command += ["-h", sb.hash] if sb.hash != "unknown" else []
    if not sb.journal_standard:
        command += ["-s", str(sb.journal_size + 1), "-t", str(sb.transaction_size)]
    return [*command, device, str(min(size // sb.block_size, _MOST_BLOCKS))]


def trying(source: Reiser, size: int, file: str) -> Command:
    """See `ByFiles`.  On a sparse file it is made in a moment."""
    return making(source, size, file)


def marking(source: Reiser, present: Reiser, device: str) -> Command:
    """See `ByFiles`."""
    never = [] if present.clean else ["-C", _LONG_AGO]  # reiserfsck has set it
    names = ["-u", marker.marker_uuid(source.uuid), "-l", marker.LABEL]
    return ["reiserfstune", "-f", *never, *names, device]


def repairing(device: str, *, anything: bool) -> Command:
    """See `ByFiles`."""
    return ["reiserfsck", "--fix-fixable", "-y", "-q", device]


def checking(device: str, *, writable: bool) -> Command:
    """See `ByFiles`.  After the kernel it settles the journal first, and then notes when it looked;
    if it may not write, it does not look."""
    return ["reiserfsck", "--check", "-y", "-q", device] if writable else []


def completing(source: Reiser, present: Reiser, device: str) -> list[Command]:
    """See `ByFiles`: nothing but its names can be tuned."""
    return []


def unmarking(source: Reiser, present: Reiser, device: str) -> list[Command]:
    """See `ByFiles`."""
    return [["reiserfstune", "-f", "-u", source.uuid, "-l", source.label, device]]


def mount_options(present: Reiser, *, writable: bool) -> list[str]:
    """See `ByFiles`.  What is not asked for, this kernel does not show: attributes, ACLs, flags."""
    return ["user_xattr", "acl", "attrs"]


def trial(source: Reiser) -> Trial | None:
    """See `ByFiles`."""
    return Trial(16 * MIB, _TRIAL, "reiserfs", "is a reiserfs, and this kernel cannot mount those")


def grown(source: Reiser, there: Reiser, size: int) -> int:
    """See `ByFiles`: it is made anew."""
    return 0


def most_names(there: Reiser, lengths: Sequence[int]) -> int | None:
    """See `ByFiles`."""
    return None


def shortage(source: Reiser, there: Reiser) -> tuple[str, str]:
    """See `ByFiles`."""
    return both_sizes(needed(source, there.size), there.size)


def overhead(sb: Superblock, blocks: int) -> int:
    """Bytes that the filesystem's own structures take: beginning, superblock, bitmaps, journal."""
    bitmaps = -(-blocks // (8 * sb.block_size))
    return superblock.OFFSET + (1 + bitmaps + sb.journal_size + 1) * sb.block_size
