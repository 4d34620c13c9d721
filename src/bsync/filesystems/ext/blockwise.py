# SPDX-License-Identifier: GPL-2.0-only
"""Whether an ext filesystem can be cloned by its blocks, and its superblock meanwhile.  Pure.

While a clone is being written by blocks, its superblock is the source's with the marker's UUID
and label, and an incompatible feature that nobody knows: no kernel mounts it, no e2fsck mends
it, and the next run sees whose incomplete clone it is.
"""

from __future__ import annotations

import uuid

from bsync.filesystems.ext import growth, superblock
from bsync.filesystems.ext.superblock import WRITING, Superblock
from bsync.filesystems.marker import LABEL, marker_uuid

# What the engine knows the blocks of.  Any feature beyond these may put them elsewhere.
_KNOWN = frozenset(
    (
        "ext_attr", "resize_inode", "dir_index", "has_journal", "sparse_super", "sparse_super2",
        "fast_commit", "stable_inodes", "orphan_file", "filetype", "extent", "64bit", "mmp",
        "flex_bg", "ea_inode", "metadata_csum_seed", "large_dir", "inline_data", "encrypt",
        "casefold", "large_file", "huge_file", "uninit_bg", "dir_nlink", "extra_isize",
        "quota", "metadata_csum", "project", "verity", "read-only",
    )
)  # fmt: skip
_MOUNTS = ((0x2C, 4), (0x275, 1), (0x34, 2), (0x178, 8))  # last time, count, KiB written
_UNTIMED = ((0x30, 4), (0x274, 1), (0x3FC, 4))  # when it was written, and the checksum


def obstacle(sb: Superblock) -> str:
    """Why `sb` cannot be cloned by blocks; empty where it can."""
    if unknown := sb.features - _KNOWN - {WRITING}:
        return f"it has {', '.join(sorted(unknown))}"
    return ""


def growth_obstacle(sb: Superblock, size: int) -> str:
    """Why a clone of `sb` could not be grown to `size` bytes in place; empty where it can."""
    blocks = growth.grown(sb, size)
    if reason := growth.defect(sb, blocks):
        return reason
    return "growing it would move its inode tables" if growth.moves(sb, blocks) else ""


def is_clone(sb: Superblock, there: Superblock) -> bool:
    """Whether `there` began as a copy of the blocks of `sb`, or of what it was then: made at the
    same time."""
    return (sb.made, sb.hash_seed) == (there.made, there.hash_seed)


def same_geometry(sb: Superblock, there: Superblock) -> bool:
    """Whether groups, descriptors and inodes are as large on both (tune2fs and resize2fs can
    change the last two)."""
    names = (
        "block_size", "first_data_block", "blocks_per_group", "inodes_per_group", "inode_size",
        "descriptor_size",
    )  # fmt: skip
    return all(getattr(sb, name) == getattr(there, name) for name in names)


def is_writing(sb: Superblock) -> bool:
    """Whether `sb` is that of a clone whose blocks are not all written."""
    return WRITING in sb.features


# --- the bytes of a superblock ------------------------------------------------------------


def writing(raw: bytes) -> bytes:
    """The superblock of a clone of `raw` that is being written."""
    return _with(_marked(raw), 0x60, 4, _number(raw, 0x60, 4) | superblock.WRITING_BIT)


def settling(raw: bytes) -> bytes:
    """The superblock of a clone of `raw` whose blocks are all there, and which is still to be
    grown: a filesystem for every tool, with the marker.

    Checksums are seeded with the UUID.  With metadata_csum that seed can be kept beside another
    UUID; with uninit_bg it cannot, so there only the label is the marker's, and tune2fs has to
    change the UUID.
    """
    incompat, compat = _number(raw, 0x60, 4), _number(raw, 0x64, 4)
    if keeps_uuid(raw):
        return raw[:0x78] + LABEL.encode() + raw[0x88:]
    if compat & 0x400 and not incompat & 0x2000:  # metadata_csum_seed
        seed = superblock.crc32c(0xFFFFFFFF, raw[0x68:0x78])
        raw = _with(_with(raw, 0x60, 4, incompat | 0x2000), 0x270, 4, seed)
    return _with(_marked(raw), 0x60, 4, _number(raw, 0x60, 4))


def settled(raw: bytes, source: bytes) -> bytes:
    """The superblock `raw` of a clone that was grown meanwhile, or a copy of it, with the names
    of `source`, what that tells of its use, and its seed only where it keeps one."""
    low, high = _number(source, 0x30, 4), _number(source, 0x274, 1)
    raw = _with(_with(raw, 0x274, 1, high), 0x30, 4, low)
    if not _number(source, 0x60, 4) & 0x2000:  # metadata_csum_seed
        raw = _with(raw, 0x60, 4, _number(raw, 0x60, 4) & ~0x2000)
    raw = _with(raw, 0x270, 4, _number(source, 0x270, 4))
    raw = raw[:0x68] + source[0x68:0x88] + raw[0x88:]
    raw = raw[:0x178] + source[0x178:0x180] + raw[0x180:]
    return _with(raw, 0x60, 4, _number(raw, 0x60, 4))


def keeps_uuid(raw: bytes) -> bool:
    """Whether `settling` leaves `raw` its UUID."""
    compat = _number(raw, 0x64, 4)
    return bool(compat & 0x10 and not compat & 0x400)  # uninit_bg, metadata_csum


def earlier(raw: bytes, seconds: int) -> bytes:
    """`raw`, as if it had been written so many seconds before."""
    written = max(0, (_number(raw, 0x30, 4) | _number(raw, 0x274, 1) << 32) - seconds)
    return _with(_with(raw, 0x274, 1, written >> 32), 0x30, 4, written & 0xFFFFFFFF)


def same(raw: bytes, there: bytes) -> bool:
    """Whether two superblocks differ at most in when they were written."""
    return _untimed(raw) == _untimed(there)


def mounted_alike(raw: bytes, there: bytes) -> bool:
    """Whether two superblocks tell of the same mounts: then none happened on either side since
    one was copied from the other.  What growing changes is not looked at."""
    return all(_number(raw, *field) == _number(there, *field) for field in _MOUNTS)


def _marked(raw: bytes) -> bytes:
    marker = uuid.UUID(marker_uuid(str(uuid.UUID(bytes=raw[0x68:0x78]))))
    return raw[:0x68] + marker.bytes + LABEL.encode() + raw[0x88:]


def _untimed(raw: bytes) -> bytes:
    for offset, width in _UNTIMED:
        raw = raw[:offset] + bytes(width) + raw[offset + width :]
    return raw


def _number(raw: bytes, offset: int, width: int) -> int:
    return int.from_bytes(raw[offset : offset + width], "little")


def _with(raw: bytes, offset: int, width: int, value: int) -> bytes:
    """`raw` with another number at `offset`, and the checksum that belongs to it."""
    raw = raw[:offset] + value.to_bytes(width, "little") + raw[offset + width :]
    if _number(raw, 0x64, 4) & 0x400:
        raw = raw[:0x3FC] + superblock.checksum(raw).to_bytes(4, "little")
    return raw
