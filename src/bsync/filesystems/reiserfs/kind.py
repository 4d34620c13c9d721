"""ReiserFS 3.6, as the stages ask for it.  Pure.

mkreiserfs(8), reiserfstune(8) and reiserfsck(8) ask no question where `-f` is given twice,
`-f`, or `-y`.  Format 3.5 has neither UUID nor label, so that nothing could tell a mirror of it.
"""

from __future__ import annotations

from bsync.filesystems import mark
from bsync.filesystems.kind import Command, Obstacle, Read, Trial, much_lost
from bsync.filesystems.reiserfs import superblock
from bsync.filesystems.reiserfs.superblock import Superblock
from bsync.layout import Reiser
from bsync.units import MIB

NAMES = ("reiserfs",)
REACH = superblock.OFFSET + superblock.SIZE
PROGRAMS = ("mkreiserfs", "reiserfstune", "reiserfsck")

_MOST_BLOCKS = (1 << 32) - 1
_BEGINNING = 64 * 1024  # bytes that are left to a boot loader
_TRIAL = ("mkreiserfs", "-q", "-f", "-f", "-b", "4096", "-s", "513", "--format", "3.6")
_RAW = "--engine raw copies the partition byte by byte"


def read(name: str, data: bytes) -> Reiser:
    """See `Kind`."""
    return Reiser(name, superblock.parse(data[superblock.OFFSET :]), any(data[:_BEGINNING]))


def obstacle(source: Reiser) -> Obstacle | None:
    """See `Kind`."""
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
    """See `Kind`."""
    return there.superblock.format == "3.6" and not there.superblock.journal_device


def needed(source: Reiser, size: int) -> int:
    """See `Kind`.  An eighth is added for what is laid out anew: trees, and tails of files."""
    sb = source.superblock
    contents = max(0, sb.used - _overhead(sb, sb.blocks))
    blocks = min(size // sb.block_size, _MOST_BLOCKS)
    return contents + contents // 8 + _overhead(sb, blocks) + MIB


def fits(source: Reiser, size: int) -> bool:
    """See `Kind`."""
    return size >= source.size or needed(source, size) <= size


def fits_into(source: Reiser, there: Reiser) -> bool:
    """See `Kind`."""
    return fits(source, there.size)


def in_use(found: Reiser, read: Read) -> bool:
    """See `Kind`."""
    return False


def smallest(source: Reiser) -> int:
    """See `Kind`: to a MiB."""
    size = MIB
    for _ in range(64):
        room = -(-needed(source, size) // MIB) * MIB
        if room <= size:
            break
        size = room
    return size


def completed(there: Reiser) -> int | None:
    """See `Kind`."""
    return None


def emptied(source: Reiser, there: Reiser) -> str:
    """See `Kind`.  A ReiserFS does not count its files, so this goes by their size."""
    here, present = (
        max(0, one.used - _overhead(one.superblock, one.superblock.blocks))
        for one in (source, there)
    )
    return much_lost(here, present)


def unlike(source: Reiser, there: Reiser) -> str:
    """See `Kind`."""
    one, other = source.superblock, there.superblock
    if (one.block_size, one.hash) == (other.block_size, other.hash):
        return ""
    return f"its make (blocks of {other.block_size} bytes, hash {other.hash})"


def tuning(content: Reiser) -> object:
    """See `Kind`."""
    return content.superblock.format


def making(source: Reiser, size: int, device: str) -> Command:
    """See `Kind`."""
    sb = source.superblock
    command = ["mkreiserfs", "-q", "-f", "-f", "--format", sb.format, "-b", str(sb.block_size)]
    command += ["-u", mark.marker_uuid(source.uuid), "-l", mark.LABEL]
    command += ["-h", sb.hash] if sb.hash != "unknown" else []
    if not sb.journal_standard:
        command += ["-s", str(sb.journal_size + 1), "-t", str(sb.transaction_size)]
    return [*command, device, str(min(size // sb.block_size, _MOST_BLOCKS))]


def rehearsing(source: Reiser, size: int, file: str) -> Command:
    """See `Kind`.  On a sparse file it is made in a moment."""
    return making(source, size, file)


def marking(source: Reiser, present: Reiser, device: str) -> Command:
    """See `Kind`."""
    return ["reiserfstune", "-f", "-u", mark.marker_uuid(source.uuid), "-l", mark.LABEL, device]


def repairing(device: str) -> Command:
    """See `Kind`."""
    return ["reiserfsck", "--fix-fixable", "-y", "-q", device]


def checking(device: str) -> Command:
    """See `Kind`: reiserfsck writes to what it checks."""
    return []


def completing(source: Reiser, present: Reiser, device: str) -> list[Command]:
    """See `Kind`: nothing but its names can be tuned."""
    return []


def unmarking(source: Reiser, present: Reiser, device: str) -> list[Command]:
    """See `Kind`."""
    return [["reiserfstune", "-f", "-u", source.uuid, "-l", source.label, device]]


def mount_options(present: Reiser, *, writable: bool) -> list[str]:
    """See `Kind`.  What is not asked for, this kernel does not show: attributes, ACLs, flags."""
    return ["user_xattr", "acl", "attrs"]


def trial(source: Reiser) -> Trial | None:
    """See `Kind`."""
    return Trial(16 * MIB, _TRIAL, "reiserfs", "is a reiserfs, and this kernel cannot mount those")


def _overhead(sb: Superblock, blocks: int) -> int:
    """Bytes that the filesystem's own structures take: beginning, superblock, bitmaps, journal."""
    bitmaps = -(-blocks // (8 * sb.block_size))
    return superblock.OFFSET + (1 + bitmaps + sb.journal_size + 1) * sb.block_size
