# SPDX-License-Identifier: GPL-2.0-only
"""The superblock of ext2, ext3 and ext4.  Pure: bytes in, facts out.

Format: kernel documentation, filesystems/ext4/super.rst ("The Super Block"): 1024 bytes
at byte 1024 of the filesystem, little-endian.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass
from typing import Any

from bsync.filesystems.kind import BadSuperblock as BadSuperblock
from bsync.model.layout import Filesystem

OFFSET = 1024  # bytes from the start of the filesystem
SIZE = 1024  # bytes
MAGIC = 0xEF53
STATE_CLEAN, STATE_ERRORS = 1, 2

WRITING, WRITING_BIT = "bsync_writing", 0x80000000  # no feature of ext's: see `blockwise`

_COMPAT = {
    0x1: "dir_prealloc", 0x2: "imagic_inodes", 0x4: "has_journal", 0x8: "ext_attr",
    0x10: "resize_inode", 0x20: "dir_index", 0x40: "lazy_bg", 0x100: "snapshot_bitmap",
    0x200: "sparse_super2", 0x400: "fast_commit", 0x800: "stable_inodes",
    0x1000: "orphan_file",
}  # fmt: skip
_INCOMPAT = {
    0x1: "compression", 0x2: "filetype", 0x4: "needs_recovery", 0x8: "journal_dev",
    0x10: "meta_bg", 0x40: "extent", 0x80: "64bit", 0x100: "mmp", 0x200: "flex_bg",
    0x400: "ea_inode", 0x1000: "dirdata", 0x2000: "metadata_csum_seed", 0x4000: "large_dir",
    0x8000: "inline_data", 0x10000: "encrypt", 0x20000: "casefold",
    WRITING_BIT: WRITING,
}  # fmt: skip
_RO_COMPAT = {
    0x1: "sparse_super", 0x2: "large_file", 0x8: "huge_file", 0x10: "uninit_bg",
    0x20: "dir_nlink", 0x40: "extra_isize", 0x80: "has_snapshot", 0x100: "quota",
    0x200: "bigalloc", 0x400: "metadata_csum", 0x800: "replica", 0x1000: "read-only",
    0x2000: "project", 0x4000: "shared_blocks", 0x8000: "verity", 0x10000: "orphan_present",
}  # fmt: skip
_MOUNT_OPTIONS = {
    0x1: "debug", 0x2: "bsdgroups", 0x4: "user_xattr", 0x8: "acl", 0x10: "uid16",
    0x100: "nobarrier", 0x200: "block_validity", 0x400: "discard", 0x800: "nodelalloc",
}  # fmt: skip
_JOURNAL_MODES = {
    0x20: "journal_data", 0x40: "journal_data_ordered", 0x60: "journal_data_writeback",
}  # fmt: skip


@dataclass(frozen=True)
class Superblock:
    """What bsync needs to know of an ext filesystem.  Sizes in blocks unless said."""

    uuid: str
    label: str
    block_size: int  # bytes
    cluster_size: int  # bytes; the block size without bigalloc
    blocks: int
    free_blocks: int
    reserved_blocks: int
    blocks_per_group: int
    first_data_block: int
    inodes: int
    free_inodes: int
    inodes_per_group: int
    inode_size: int  # bytes
    features: frozenset[str]
    state: int
    revision: int
    descriptor_size: int  # bytes of one group descriptor
    first_meta_bg: int
    groups_per_flex: int
    reserved_gdt_blocks: int
    journal_inode: int  # 0 with has_journal: the journal is on another device
    journal_size: int  # bytes; 0 where unknown or absent
    hash_seed: str
    hash_version: int
    default_mount_options: frozenset[str]
    mount_options: str  # the free text of tune2fs -E mount_opts
    errors_behaviour: int
    max_mount_count: int
    check_interval: int  # seconds
    reserved_uid: int
    reserved_gid: int
    quota_inodes: tuple[int, int, int]  # user, group, project; 0: none
    backup_groups: tuple[int, int] = (0, 0)  # with sparse_super2: where the two backups are
    orphan_inode: int = 0  # the file that orphan_file keeps; 0: none
    mmp_block: int = 0  # 0: none
    made: int = 0  # seconds since 1970: when mke2fs made it, or the one it was cloned from
    written: int = 0  # seconds since 1970: the last write of the superblock
    mmp_interval: int = 0  # seconds between two signs of life (mmp); 0: the default
    checked: int = 0  # seconds since 1970: the last check
    checksum_seed: int = 0  # that of the checksums of metadata_csum

    @property
    def unit(self) -> int:
        return self.block_size

    @property
    def size(self) -> int:
        """Bytes from the first to the last block."""
        return self.blocks * self.block_size

    @property
    def used(self) -> int:
        """Bytes of the blocks in use, the filesystem's own included."""
        return (self.blocks - self.free_blocks) * self.block_size

    @property
    def used_inodes(self) -> int:
        return self.inodes - self.free_inodes

    @property
    def groups(self) -> int:
        return -(-(self.blocks - self.first_data_block) // self.blocks_per_group)

    @property
    def clean(self) -> bool:
        """Nothing is left for a journal recovery or a check to do."""
        pending = {"needs_recovery", "orphan_present"} & self.features
        return self.state & (STATE_CLEAN | STATE_ERRORS) == STATE_CLEAN and not pending


@dataclass(frozen=True)
class Ext(Filesystem):
    """An ext2, ext3 or ext4 filesystem."""

    superblock: Superblock


def parse(data: bytes) -> Superblock:
    """The superblock in `data` (its 1024 bytes).  Raises `BadSuperblock`."""
    if len(data) != SIZE or _int(data, 0x38, 2) != MAGIC:
        raise BadSuperblock("no ext2/3/4 superblock")
    features = _features(data)
    result = _fields(data, features)
    _check(result)
    _check_sum(data, features)
    return result


def _fields(data: bytes, features: frozenset[str]) -> Superblock:
    wide = "64bit" in features
    block_size = _shifted(data, 0x18, "block size")
    revision = _int(data, 0x4C, 4)
    return Superblock(
        **_tuning(data),
        uuid=str(uuid.UUID(bytes=data[0x68:0x78])),
        label=data[0x78:0x88].split(b"\0")[0].decode("utf-8", "surrogateescape"),
        block_size=block_size,
        cluster_size=_shifted(data, 0x1C, "cluster size") if "bigalloc" in features else block_size,
        blocks=_split(data, 0x04, 0x150, wide),
        free_blocks=_split(data, 0x0C, 0x158, wide),
        reserved_blocks=_split(data, 0x08, 0x154, wide),
        blocks_per_group=_int(data, 0x20, 4),
        first_data_block=_int(data, 0x14, 4),
        inodes=_int(data, 0x00, 4),
        free_inodes=_int(data, 0x10, 4),
        inodes_per_group=_int(data, 0x28, 4),
        inode_size=_int(data, 0x58, 2) if revision else 128,
        features=features,
        state=_int(data, 0x3A, 2),
        revision=revision,
        descriptor_size=_int(data, 0xFE, 2) if wide else 32,
        first_meta_bg=_int(data, 0x104, 4),
        groups_per_flex=1 << _int(data, 0x174, 1) if "flex_bg" in features else 1,
        reserved_gdt_blocks=_int(data, 0xCE, 2) if "resize_inode" in features else 0,
        journal_inode=_int(data, 0xE0, 4),
        journal_size=_journal_size(data) if "has_journal" in features else 0,
        quota_inodes=(_int(data, 0x240, 4), _int(data, 0x244, 4), _int(data, 0x26C, 4)),
        backup_groups=(_int(data, 0x24C, 4), _int(data, 0x250, 4)),
        mmp_block=_int(data, 0x168, 8) if "mmp" in features else 0,
        orphan_inode=_int(data, 0x280, 4) if "orphan_file" in features else 0,
        mmp_interval=_int(data, 0x166, 2) if "mmp" in features else 0,
        checksum_seed=_seed(data, features),
    )


def _seed(data: bytes, features: frozenset[str]) -> int:
    """What every checksum begins with: kept by itself, or made of the UUID."""
    kept = "metadata_csum_seed" in features
    return _int(data, 0x270, 4) if kept else crc32c(0xFFFFFFFF, data[0x68:0x78])


def _tuning(data: bytes) -> dict[str, Any]:
    """What tune2fs can set, and the times."""
    return {
        "hash_seed": str(uuid.UUID(bytes=data[0xEC:0xFC])),
        "hash_version": data[0xFC],
        "default_mount_options": _mount_options(_int(data, 0x100, 4)),
        "mount_options": data[0x200:0x240].split(b"\0")[0].decode("utf-8", "surrogateescape"),
        "errors_behaviour": _int(data, 0x3C, 2),
        "max_mount_count": struct.unpack_from("<h", data, 0x36)[0],
        "check_interval": _int(data, 0x44, 4),
        "reserved_uid": _int(data, 0x50, 2),
        "reserved_gid": _int(data, 0x52, 2),
        "made": _int(data, 0x108, 4) | data[0x276] << 32,
        "written": _int(data, 0x30, 4) | data[0x274] << 32,
        "checked": _int(data, 0x40, 4) | data[0x277] << 32,
    }


def checksum(data: bytes) -> int:
    """The CRC-32C that metadata_csum keeps at byte 0x3FC, of the bytes before it."""
    return crc32c(0xFFFFFFFF, data[:0x3FC])


def crc32c(crc: int, data: bytes) -> int:
    """CRC-32C (Castagnoli, reflected) as ext4 uses it: no inversion at the end."""
    for byte in data:
        crc = (crc >> 8) ^ CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc


def _crc_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


CRC_TABLE = tuple(_crc_entry(value) for value in range(256))


def _int(data: bytes, offset: int, width: int) -> int:
    return int.from_bytes(data[offset : offset + width], "little")


def _split(data: bytes, low: int, high: int, wide: bool) -> int:
    """A count kept as a low and (with the 64bit feature) a high half."""
    return _int(data, low, 4) | (_int(data, high, 4) << 32 if wide else 0)


def _shifted(data: bytes, offset: int, what: str) -> int:
    """A size kept as its logarithm above 1024 bytes."""
    shift = _int(data, offset, 4)
    if shift > (6 if what == "block size" else 20):
        raise BadSuperblock(f"impossible {what} (1024 << {shift})")
    return 1024 << shift


def _features(data: bytes) -> frozenset[str]:
    words = (("compat", 0x5C, _COMPAT), ("incompat", 0x60, _INCOMPAT), ("ro", 0x64, _RO_COMPAT))
    if _int(data, 0x4C, 4) == 0:
        return frozenset()
    found = set()
    for word, offset, names in words:
        value = _int(data, offset, 4)
        for bit in range(32):
            if value >> bit & 1:
                found.add(names.get(1 << bit, f"unknown-{word}-{1 << bit:#x}"))
    return frozenset(found)


def _mount_options(bits: int) -> frozenset[str]:
    names = {name for bit, name in _MOUNT_OPTIONS.items() if bits & bit}
    mode = _JOURNAL_MODES.get(bits & 0x60)
    return frozenset(names | ({mode} if mode else set()))


def _journal_size(data: bytes) -> int:
    """Bytes of the internal journal: the size in the superblock's copy of its inode."""
    copies_inode = data[0xFD] == 1 and _int(data, 0xE0, 4)
    return (_int(data, 0x14C, 4) | _int(data, 0x148, 4) << 32) if copies_inode else 0


def _check(sb: Superblock) -> None:
    """Refuse what no mke2fs makes, before anything is computed from it."""
    table_bytes = sb.inodes_per_group * sb.inode_size
    impossible = (
        (sb.revision > 1, f"unknown revision {sb.revision}"),
        (not 0 < sb.blocks < 1 << 48, f"{sb.blocks} blocks"),
        (not 0 < sb.inodes < 1 << 32, f"{sb.inodes} inodes"),
        (sb.free_blocks > sb.blocks, "more blocks free than there are"),
        (sb.free_inodes > sb.inodes, "more inodes free than there are"),
        (sb.reserved_blocks > sb.blocks, "more blocks reserved than there are"),
        (sb.first_data_block != (sb.cluster_size == 1024), "wrong first data block"),
        (sb.blocks_per_group == 0 or sb.blocks_per_group % 8, "wrong blocks per group"),
        (sb.blocks_per_group > 8 * sb.block_size * (sb.cluster_size // sb.block_size or 1),
         "more blocks in a group than its bitmap covers"),
        (not 0 < sb.inodes_per_group <= 8 * sb.block_size, "wrong inodes per group"),
        (sb.inode_size < 128 or sb.inode_size & (sb.inode_size - 1)
         or sb.inode_size > sb.block_size, f"inode size {sb.inode_size}"),
        (sb.cluster_size < sb.block_size, "clusters smaller than blocks"),
        (sb.descriptor_size not in (32, 64, 128, 256, 512, 1024),
         f"group descriptors of {sb.descriptor_size} bytes"),
        (table_bytes > sb.blocks_per_group * sb.block_size, "inode tables larger than groups"),
        (sb.groups_per_flex > 1 << 31, "impossible flex_bg size"),
    )  # fmt: skip
    for wrong, text in impossible:
        if wrong:
            raise BadSuperblock(f"damaged superblock ({text})")
    descriptors = sb.groups * sb.descriptor_size
    if "meta_bg" not in sb.features and descriptors > sb.blocks_per_group * sb.block_size:
        raise BadSuperblock("damaged superblock (descriptors larger than groups)")
    if sb.inodes != sb.inodes_per_group * sb.groups:
        raise BadSuperblock("damaged superblock (inode count and groups disagree)")


def _check_sum(data: bytes, features: frozenset[str]) -> None:
    if "metadata_csum" in features and _int(data, 0x3FC, 4) != checksum(data):
        raise BadSuperblock("damaged superblock (wrong checksum)")
