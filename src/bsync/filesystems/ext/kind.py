"""ext2, ext3 and ext4, as the stages ask for them: see `Kind`.  Pure."""

from __future__ import annotations

from bsync.filesystems import mark as marks
from bsync.filesystems.ext import make, mark, superblock
from bsync.filesystems.kind import Command, Obstacle, Read, Trial, much_lost
from bsync.layout import Ext
from bsync.units import MIB, count_text, size_text

NAMES = ("ext2", "ext3", "ext4", "ext4dev")
REACH = superblock.OFFSET + superblock.SIZE
PROGRAMS = ("mke2fs", "tune2fs", "e2fsck", "debugfs")

_MMP_CLEAN = 0xFF4D4D50  # the sequence of one that is not mounted
_MANY = 100  # files: the loss of most of fewer goes unasked
_TRIAL_SIZE = 4 * MIB
_RAW = "--engine raw copies the partition byte by byte"


def read(name: str, data: bytes) -> Ext:
    """See `Kind`."""
    boot_block, data = data[: superblock.OFFSET], data[superblock.OFFSET : REACH]
    return Ext(name, superblock.parse(data), any(boot_block))


def in_use(found: Ext, read: Read) -> bool:
    """See `Kind`.  Format: kernel documentation, filesystems/ext4/mmp.rst."""
    sb = found.superblock
    if not sb.mmp_block:
        return False
    if not 0 < sb.mmp_block < sb.blocks:
        return True
    sequence = int.from_bytes(read(sb.mmp_block * sb.block_size + 4, 4), "little")
    return sequence != _MMP_CLEAN


def unsettled(source: Ext) -> Obstacle | None:
    """Why no copy of any kind would be whole, if so."""
    sb = source.superblock
    if "needs_recovery" in sb.features:
        return Obstacle(
            f": the {source.kind} journal needs recovery",
            "mount and unmount it once, or run e2fsck -p; bsync does not write to a source",
        )
    if not sb.clean:
        return Obstacle(f": its {source.kind} needs a check", "run e2fsck -p on it")
    if "has_journal" in sb.features and not sb.journal_inode:
        return Obstacle(": its journal is on another device", _RAW)
    return None


def obstacle(source: Ext) -> Obstacle | None:
    """See `Kind`."""
    if reason := unsettled(source):
        return reason
    if unmakeable := make.unmakeable(source.superblock):
        features = ", ".join(sorted(unmakeable))
        return Obstacle(f" has features that a copy of its files would lose: {features}", _RAW)
    return None


def writable(there: Ext) -> bool:
    """See `Kind`."""
    return not make.unmakeable(there.superblock)


def needed(source: Ext, size: int) -> int:
    """See `Kind`."""
    return make.needed(source.superblock, size)


def fits(source: Ext, size: int) -> bool:
    """See `Kind`."""
    return make.fits(source.superblock, size)


def fits_into(source: Ext, there: Ext) -> bool:
    """See `Kind`."""
    sb, present = source.superblock, there.superblock
    return make.fits(sb, present.size) and sb.used_inodes <= present.inodes


def smallest(source: Ext) -> int:
    """See `Kind`."""
    return make.smallest(source.superblock)


def completed(there: Ext) -> int | None:
    """See `Kind`: it counts as checked then."""
    return there.superblock.checked or None


def emptied(source: Ext, there: Ext) -> str:
    """See `Kind`."""
    files, present = make.files(source.superblock), make.files(there.superblock)
    if (present >= _MANY and files * 2 < present) or (present and not files):
        return f"about {present - files:,} of {count_text(present, 'file')}"
    return much_lost(make.contents(source.superblock), make.contents(there.superblock))


def unlike(source: Ext, there: Ext) -> str:
    """See `Kind`."""
    seed = frozenset({"metadata_csum_seed"}) if marks.is_marked(there) else frozenset()
    differ = (make.features(source.superblock) ^ make.features(there.superblock)) - seed
    differ -= {"large_file", "resize_inode"}  # set by use, or dropped by growing
    return f"features ({', '.join(sorted(differ))})" if differ else ""


def tuning(content: Ext) -> object:
    """See `Kind`."""
    return make.tuning(content.superblock)


def making(source: Ext, size: int, device: str) -> Command:
    """See `Kind`."""
    sb = source.superblock
    return make.mke2fs_arguments(sb, make.shape(sb, size), device)


def rehearsing(source: Ext, size: int, file: str) -> Command:
    """See `Kind`."""
    program, *arguments = making(source, size, file)
    return [program, "-n", *arguments]


def marking(source: Ext, present: Ext, device: str) -> Command:
    """See `Kind`."""
    return ["tune2fs", *mark.marking(source.superblock, present.superblock), device]


def repairing(device: str) -> Command:
    """See `Kind`."""
    return ["e2fsck", "-p", device]


def checking(device: str) -> Command:
    """See `Kind`."""
    return ["e2fsck", "-f", "-n", device]


def completing(source: Ext, present: Ext, device: str) -> list[Command]:
    """See `Kind`."""
    sb = source.superblock
    return [
        ["tune2fs", "-T", "now", *make.tune2fs_arguments(sb, present.superblock.blocks), device],
        *(["debugfs", "-w", "-R", request, device] for request in make.debugfs_requests(sb)),
    ]


def unmarking(source: Ext, present: Ext, device: str) -> list[Command]:
    """See `Kind`."""
    changes = mark.completing(source.superblock, present.superblock)
    return [["tune2fs", *words, device] for words in changes]


def mount_options(present: Ext, *, writable: bool) -> list[str]:
    """See `Kind`.  Errors remount it, whatever it says itself: it might say panic."""
    journal = "has_journal" in present.superblock.features
    return ["errors=remount-ro", *(["noload"] if journal and not writable else [])]


def trial(source: Ext) -> Trial | None:
    """See `Kind`."""
    command, size = make.trial_arguments(source.superblock), source.superblock.block_size
    why = "has quota or project IDs, and this kernel cannot write such filesystems"
    if size > make.SMALLEST_PAGE:
        why = f"has blocks of {size_text(size)}, and this kernel cannot mount such filesystems"
    return Trial(_TRIAL_SIZE, tuple(command), "ext4", why) if command else None
