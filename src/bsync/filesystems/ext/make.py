# SPDX-License-Identifier: GPL-2.0-only
"""How an ext filesystem like another one is made: shape, arguments, room needed.  Pure.

mke2fs and tune2fs are told everything, since their defaults change from release to
release: a new filesystem with features younger than the source's boot loader would not
boot.
"""

from __future__ import annotations

from dataclasses import dataclass

from bsync.filesystems.ext import growth, marker
from bsync.filesystems.ext.superblock import WRITING, Superblock
from bsync.filesystems.kind import smallest_for
from bsync.units import MIB

_STATES = frozenset({"needs_recovery", "orphan_present"})  # facts of the moment, not features
_UNMAKEABLE = frozenset(
    (
        "dir_prealloc", "imagic_inodes", "lazy_bg", "snapshot_bitmap", "stable_inodes",
        "compression", "journal_dev", "dirdata", "encrypt", "casefold", "has_snapshot",
        "replica", "read-only", "shared_blocks", "verity", WRITING,
    )
)  # fmt: skip
_KERNEL_BOUND = frozenset({"quota", "project"})  # writable only if the kernel has them built in
SMALLEST_PAGE = 4096  # bytes: larger blocks are mounted by few kernels
_MOUNT_OPTIONS = (
    "debug", "bsdgroups", "user_xattr", "acl", "uid16", "nobarrier", "block_validity",
    "discard", "nodelalloc",
)  # fmt: skip
_MAX_GROUP = 65528  # blocks; more than 16 bits of a group descriptor's count do not hold
_FIRST_ORDINARY = 11  # the inode of lost+found; those before it are the filesystem's own
_MAX_MMP = 300  # seconds; mke2fs takes no more
_JOURNAL_MODES = ("journal_data", "journal_data_ordered", "journal_data_writeback")
_ERRORS = {1: "continue", 2: "remount-ro", 3: "panic"}
_HASHES = {0: "legacy", 1: "half_md4", 2: "tea", 3: "legacy", 4: "half_md4", 5: "tea"}


@dataclass(frozen=True)
class Shape:
    """The variable part of a filesystem made like another one."""

    blocks: int
    inodes: int
    journal: int  # bytes


def unmakeable(source: Superblock) -> frozenset[str]:
    """The features of `source` that a copy by files could not carry over."""
    unknown = {name for name in source.features if name.startswith("unknown-")}
    return (source.features & _UNMAKEABLE) | unknown


def features(source: Superblock) -> frozenset[str]:
    """The features that a clone of `source` is made with."""
    return source.features - _STATES


def shape(source: Superblock, size: int) -> Shape:
    """The shape of a clone of `source` on `size` bytes.

    As many inodes as the source's where there is room for them, in proportion (as
    resize2fs would grow them) where the destination is larger; otherwise as many as the
    size allows, but never fewer than are in use.
    """
    blocks = min(size // source.block_size, _most_blocks(source))
    groups = _groups(source, blocks)
    fewest = source.used_inodes + source.used_inodes // 20 + 16
    proportional, fewest, as_many = (
        _rounded(source, groups, inodes)
        for inodes in (source.inodes_per_group * groups, fewest, source.inodes)
    )
    journal = _journal(source, blocks)
    for inodes in (max(as_many, proportional), as_many, max(proportional, fewest)):
        candidate = Shape(blocks, inodes, journal)
        if _room(source, candidate) <= size:
            return candidate
    return Shape(blocks, as_many if blocks >= source.blocks else fewest, journal)


def needed(source: Superblock, size: int) -> int:
    """Bytes that the contents of `source` need, made anew on `size` bytes."""
    return _room(source, shape(source, size))


def fits(source: Superblock, size: int) -> bool:
    """Whether the files of `source` fit on `size` bytes."""
    return size >= source.size or needed(source, size) <= size


def grown(source: Superblock, present: Superblock, size: int) -> int:
    """Blocks of the clone `present` once resize2fs lets it fill `size` bytes; 0 if the contents
    of `source` would not fit then, or it cannot be grown."""
    blocks = growth.grown(present, size)
    if blocks <= present.blocks or growth.defect(present, blocks):
        return 0
    groups = max(1, blocks // present.blocks_per_group)  # a small last one may be left out
    inodes = present.inodes_per_group * groups
    size = blocks * present.block_size
    made = Shape(size // source.block_size, inodes, present.journal_size)
    fits = size >= source.size or _room(source, made) <= size
    return blocks if fits and source.used_inodes <= inodes else 0


def smallest(source: Superblock) -> int:
    """Bytes of the smallest destination, to a MiB, on which `source` fits."""
    return smallest_for(lambda size: needed(source, size), MIB)


def contents(sb: Superblock) -> int:
    """Bytes that files and directories take, and what belongs to them: all but the filesystem's own
    structures."""
    own = Shape(sb.blocks, sb.inodes, sb.journal_size)
    return max(0, sb.used - _overhead(sb, own, sb.reserved_gdt_blocks))


def files(sb: Superblock) -> int:
    """Files and directories, but for the root and lost+found."""
    quotas = sum(inode >= _FIRST_ORDINARY for inode in sb.quota_inodes)
    return max(0, sb.used_inodes - _FIRST_ORDINARY - quotas - ("orphan_file" in sb.features))


def mke2fs_arguments(source: Superblock, made: Shape, device: str) -> list[str]:
    """The command that makes a filesystem like `source` on `device`, marked incomplete.

    It gets a hash seed of its own, by which it is no copy of the source's blocks.
    """
    extended = ["nodiscard", "lazy_itable_init=1", "lazy_journal_init=1"]
    if 0 < source.mmp_interval <= _MAX_MMP:
        extended.append(f"mmp_update_interval={source.mmp_interval}")
    quotas = zip(("usrquota", "grpquota", "prjquota"), source.quota_inodes, strict=True)
    kinds = [name for name, inode in quotas if inode]
    if kinds and "quota" in source.features:
        extended.append(f"quotatype={':'.join(kinds)}")
    arguments = ["mke2fs", "-F", "-q", "-t", _type(source), "-m", "0"]
    arguments += ["-U", source.uuid, "-L", marker.LABEL]
    arguments += ["-O", ",".join(["none", *sorted(features(source))])]
    arguments += ["-b", str(source.block_size), "-I", str(source.inode_size)]
    arguments += ["-N", str(made.inodes), "-E", ",".join(extended)]
    if source.revision == 0:
        arguments += ["-r", "0"]
    if "flex_bg" in source.features:
        arguments += ["-G", str(source.groups_per_flex)]
    if "bigalloc" in source.features:
        arguments += ["-C", str(source.cluster_size)]
    elif source.blocks_per_group != min(8 * source.block_size, _MAX_GROUP):
        arguments += ["-g", str(source.blocks_per_group)]
    if made.journal:
        arguments += ["-J", f"size={made.journal // MIB}"]
    return [*arguments, device, f"{made.blocks * source.block_size // 1024}k"]


def trial_arguments(source: Superblock) -> list[str]:
    """The command that makes, on the device named after it, a small filesystem on which to try
    whether this kernel can write one like `source`; empty where every kernel can."""
    bound = sorted(source.features & _KERNEL_BOUND)
    made = ["mke2fs", "-F", "-q", "-t", "ext4", "-I", "256", "-O", ",".join(["none", *bound])]
    made += ["-b", str(source.block_size)]
    return made if bound or source.block_size > SMALLEST_PAGE else []


def tune2fs_arguments(source: Superblock, blocks: int) -> list[str]:
    """The options of tune2fs that give a filesystem of `blocks` what `source` is tuned to."""
    reserved = source.reserved_blocks * blocks // source.blocks
    arguments = ["-r", str(reserved), "-u", str(source.reserved_uid)]
    arguments += ["-g", str(source.reserved_gid), "-c", str(_mount_count(source))]
    arguments += ["-i", f"{source.check_interval}s"]  # without the unit it would be days
    arguments += ["-e", _errors(source)]
    extended = [] if "," in source.mount_options else [f"mount_opts={source.mount_options}"]
    if "dir_index" in source.features and source.hash_version in _HASHES:
        extended.append(f"hash_alg={_HASHES[source.hash_version]}")
    arguments += ["-E", ",".join(extended)] if extended else []
    wanted = source.default_mount_options
    options = [name if name in wanted else f"^{name}" for name in _MOUNT_OPTIONS]
    options += [mode for mode in _JOURNAL_MODES if mode in wanted] or ["^journal_data_writeback"]
    return [*arguments, "-o", ",".join(options)]


def debugfs_requests(source: Superblock) -> list[str]:
    """What tune2fs cannot set: it takes a comma for the end of the mount options."""
    if "," not in source.mount_options:
        return []
    return [f'set_super_value mount_opts "{source.mount_options}"']


def tuning(source: Superblock) -> tuple[object, ...]:
    """What `tune2fs_arguments` sets, for comparing two filesystems."""
    return (
        source.reserved_uid, source.reserved_gid, _mount_count(source),
        source.check_interval, _errors(source), source.default_mount_options,
        source.mount_options,
    )  # fmt: skip


def _mount_count(source: Superblock) -> int:
    """Mounts between two checks; nothing above 0 means none, and tune2fs only writes -1."""
    return max(source.max_mount_count, 0) or -1


def _errors(source: Superblock) -> str:
    return _ERRORS.get(source.errors_behaviour, "continue")


def _type(source: Superblock) -> str:
    if "has_journal" not in source.features:
        return "ext2" if not source.features & {"extent", "flex_bg"} else "ext4"
    return "ext4" if source.features & {"extent", "flex_bg", "64bit"} else "ext3"


def _most_blocks(source: Superblock) -> int:
    return (1 << (48 if "64bit" in source.features else 32)) - 1


def _groups(source: Superblock, blocks: int) -> int:
    return max(1, -(-(blocks - source.first_data_block) // source.blocks_per_group))


def _rounded(source: Superblock, groups: int, inodes: int) -> int:
    """At least `inodes`, the same in every group, in whole blocks and bytes of the bitmap.

    Left to itself mke2fs rounds down where it has to, by up to a third.
    """
    step = max(8, source.block_size // source.inode_size)
    return -(-inodes // (groups * step)) * step * groups


def _journal(source: Superblock, blocks: int) -> int:
    """Bytes of journal: the source's, but no more than a sixteenth of a smaller clone."""
    if "has_journal" not in source.features:
        return 0
    least = max(1024 * source.block_size, MIB)
    wanted = source.journal_size or least
    if "fast_commit" in source.features:  # mke2fs adds a 64th for it to what it is told
        wanted = wanted * 64 // 65
    if blocks < source.blocks:
        wanted = min(wanted, max(least, blocks * source.block_size // 16))
    return -(-wanted // MIB) * MIB


def _room(source: Superblock, made: Shape) -> int:
    """Bytes for the contents of `source` in a filesystem of the shape `made`.

    A fiftieth is added for what a copy by files lays out anew: directories, extent trees.
    """
    held = contents(source)
    spare = held // 50 + MIB
    overhead = _overhead(source, made, _reserved_gdt(source, made.blocks))
    return max(held + spare + overhead, _least_room(source, made, overhead))


def _least_room(source: Superblock, made: Shape, overhead: int) -> int:
    """Bytes below which mke2fs makes nothing of the shape `made`, however empty it is."""
    full = (made.inodes - 1) // (8 * source.block_size)  # groups whose inode bitmaps are full
    least = full * source.blocks_per_group * source.block_size * 9 // 8
    if made.journal:  # as much again must stay free beside it
        least = max(least, 2048 * source.block_size, overhead + made.journal + MIB)
    return least


def _overhead(source: Superblock, made: Shape, reserved_gdt: int) -> int:
    """Bytes that the filesystem's own structures take."""
    groups = _groups(source, made.blocks)
    per_block = source.block_size // source.descriptor_size
    table = -(-groups // per_block) + reserved_gdt
    copies = _backups(groups) if "sparse_super" in source.features else groups
    if "sparse_super2" in source.features:
        copies = min(groups, 3)
    blocks = copies * (1 + table) + 2 * groups
    return blocks * source.block_size + made.inodes * source.inode_size + made.journal


def _reserved_gdt(source: Superblock, blocks: int) -> int:
    """Blocks that mke2fs keeps for growing the descriptors (to 1024 times the size)."""
    if "resize_inode" not in source.features:
        return 0
    per_block = source.block_size // source.descriptor_size
    grown = _groups(source, min(blocks * 1024, (1 << 32) - 1))
    return min(-(-grown // per_block), source.block_size // 4)


def _backups(groups: int) -> int:
    """How many groups hold a superblock: 0, 1, and the powers of 3, 5 and 7."""
    powers: set[int] = {base**power for base in (3, 5, 7) for power in range(1, 40)}
    return min(groups, 2) + sum(power < groups for power in powers)
