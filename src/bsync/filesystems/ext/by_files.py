# SPDX-License-Identifier: GPL-2.0-only
"""ext2, ext3 and ext4 by their files: see `ByFiles`.  Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bsync.filesystems import marker as markers
from bsync.filesystems.ext import htree, make, marker
from bsync.filesystems.ext.superblock import Ext
from bsync.filesystems.kind import Command, Obstacle, Trial
from bsync.units import MIB, both_sizes, size_text

PROGRAMS = ("mke2fs", "tune2fs", "e2fsck", "debugfs")

_TRIAL_SIZE = 4 * MIB
_LONG_AGO = "19700102"  # 0 is no time
_RAW = "--engine raw copies the partition byte by byte"


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
    """See `ByFiles`."""
    if reason := unsettled(source):
        return reason
    if unmakeable := make.unmakeable(source.superblock):
        features = ", ".join(sorted(unmakeable))
        return Obstacle(f" has features that a copy of its files would lose: {features}", _RAW)
    return None


def writable(there: Ext) -> bool:
    """See `ByFiles`."""
    return not make.unmakeable(there.superblock)


def needed(source: Ext, size: int) -> int:
    """See `ByFiles`."""
    return make.needed(source.superblock, size)


def fits(source: Ext, size: int) -> bool:
    """See `ByFiles`."""
    return make.fits(source.superblock, size)


def fits_into(source: Ext, there: Ext) -> bool:
    """See `ByFiles`."""
    sb, present = source.superblock, there.superblock
    return make.fits(sb, present.size) and sb.used_inodes <= present.inodes


def smallest(source: Ext) -> int:
    """See `ByFiles`."""
    return make.smallest(source.superblock)


def completed(there: Ext) -> int | None:
    """See `ByFiles`: it counts as checked then."""
    return there.superblock.checked or None


def unlike(source: Ext, there: Ext) -> str:
    """See `ByFiles`."""
    seed = frozenset({"metadata_csum_seed"}) if markers.is_marked(there) else frozenset()
    differ = (make.features(source.superblock) ^ make.features(there.superblock)) - seed
    differ -= {"large_file", "resize_inode"}  # set by use, or dropped by growing
    return f"features ({', '.join(sorted(differ))})" if differ else ""


def making(source: Ext, size: int, device: str) -> Command:
    """See `ByFiles`."""
    sb = source.superblock
    return make.mke2fs_arguments(sb, make.shape(sb, size), device)


def trying(source: Ext, size: int, file: str) -> Command:
    """See `ByFiles`."""
    program, *arguments = making(source, size, file)
    return [program, "-n", *arguments]


def marking(source: Ext, present: Ext, device: str) -> Command:
    """See `ByFiles`."""
    never = [] if present.clean else ["-T", _LONG_AGO]  # e2fsck has set it
    return ["tune2fs", *never, *marker.marking(source.superblock, present.superblock), device]


def repairing(device: str, *, anything: bool) -> Command:
    """See `ByFiles`."""
    return ["e2fsck", *(["-f", "-y"] if anything else ["-p"]), device]


def checking(device: str, *, writable: bool) -> Command:
    """See `ByFiles`."""
    return ["e2fsck", "-f", "-n", device]


def completing(source: Ext, present: Ext, device: str) -> list[Command]:
    """See `ByFiles`."""
    sb = source.superblock
    return [
        ["tune2fs", "-T", "now", *make.tune2fs_arguments(sb, present.superblock.blocks), device],
        *(["debugfs", "-w", "-R", request, device] for request in make.debugfs_requests(sb)),
    ]


def unmarking(source: Ext, present: Ext, device: str) -> list[Command]:
    """See `ByFiles`."""
    changes = marker.completing(source.superblock, present.superblock)
    return [["tune2fs", *words, device] for words in changes]


def mount_options(present: Ext, *, writable: bool) -> list[str]:
    """See `ByFiles`.  Errors remount it, whatever it says itself: it might say panic."""
    journal = "has_journal" in present.superblock.features
    return ["errors=remount-ro", *(["noload"] if journal and not writable else [])]


def trial(source: Ext) -> Trial | None:
    """See `ByFiles`."""
    command, size = make.trial_arguments(source.superblock), source.superblock.block_size
    why = "has quota or project IDs, and this kernel cannot write such filesystems"
    if size > make.SMALLEST_PAGE:
        why = f"has blocks of {size_text(size)}, and this kernel cannot mount such filesystems"
    return Trial(_TRIAL_SIZE, tuple(command), "ext4", why) if command else None


def grown(source: Ext, there: Ext, size: int) -> int:
    """See `ByFiles`."""
    return make.grown(source.superblock, there.superblock, size)


def most_names(there: Ext, lengths: Sequence[int]) -> int | None:
    """See `ByFiles`."""
    sb = there.superblock
    return htree.most_names(sb, lengths) if htree.is_bounded(sb) else None


def shortage(source: Ext, there: Ext) -> tuple[str, str]:
    """See `ByFiles`."""
    sb, present = source.superblock, there.superblock
    if sb.used_inodes > present.inodes:
        return f"{sb.used_inodes:,} inodes", f"{present.inodes:,}"
    return both_sizes(make.needed(sb, present.size), present.size)
