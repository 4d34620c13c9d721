# SPDX-License-Identifier: GPL-2.0-only
"""The superblock of ext2, ext3 and ext4."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsync.filesystems.ext import superblock
from bsync.filesystems.ext.superblock import BadSuperblock, checksum, crc32c, parse
from bsync.units import MIB

UUID = "11111111-2222-4333-8444-555555555555"
SEED = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"


def made(folder: Path, size: int, *options: str) -> bytes:
    """The superblock of a filesystem made by mke2fs."""
    image = folder / "image"
    with image.open("wb") as file:
        file.truncate(size)
    environment = {"MKE2FS_CONFIG": "/dev/null", "PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    subprocess.run(["mke2fs", "-q", "-F", *options, str(image)], check=True, env=environment)
    with image.open("rb") as file:
        file.seek(superblock.OFFSET)
        return file.read(superblock.SIZE)


def patched(data: bytes, offset: int, value: int, width: int = 4) -> bytes:
    """`data` with one field changed, and a checksum that fits."""
    field = value.to_bytes(width, "little")
    changed = data[:offset] + field + data[offset + width :]
    return changed[:0x3FC] + checksum(changed).to_bytes(4, "little")


@pytest.fixture(scope="module")
def modern(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An ext4 with everything, of 1 KiB blocks."""
    return made(
        tmp_path_factory.mktemp("modern"), 96 * MIB, "-t", "ext4", "-b", "1024", "-I", "256",
        "-U", UUID, "-L", "sixteen bytes ok", "-N", "5000", "-m", "7", "-E",
        f"hash_seed={SEED},quotatype=usrquota:prjquota", "-O",
        "has_journal,extent,64bit,flex_bg,metadata_csum,quota,project,huge_file,dir_index,"
        "sparse_super,large_file,resize_inode,ext_attr,filetype,extra_isize", "-G", "8",
        "-J", "size=4",
    )  # fmt: skip


def test_every_field_of_a_real_one(modern: bytes) -> None:
    sb = parse(modern)
    assert (sb.uuid, sb.label, sb.hash_seed) == (UUID, "sixteen bytes ok", SEED)
    assert (sb.block_size, sb.cluster_size, sb.first_data_block) == (1024, 1024, 1)
    assert (sb.size, sb.blocks, sb.groups, sb.blocks_per_group) == (96 * MIB, 98304, 12, 8192)
    assert sb.reserved_blocks == 98304 * 7 // 100
    assert sb.inodes == 12 * 416  # as near to 5000 as whole blocks of inodes come
    assert sb.inodes == sb.groups * sb.inodes_per_group
    # reserved inodes 1 to 10 and lost+found; mke2fs accounts the one of the project quota so
    assert sb.used_inodes in (11, 12)
    assert (sb.inode_size, sb.descriptor_size, sb.groups_per_flex) == (256, 64, 8)
    assert sb.features == {
        "has_journal", "extent", "64bit", "flex_bg", "metadata_csum", "quota", "project",
        "huge_file", "dir_index", "sparse_super", "large_file", "resize_inode", "ext_attr",
        "filetype", "extra_isize",
    }  # fmt: skip
    assert (sb.journal_inode, sb.journal_size) == (8, 4 * MIB)
    assert sb.quota_inodes[0]
    assert not sb.quota_inodes[1]
    assert sb.quota_inodes[2]
    assert sb.clean
    assert sb.revision == 1
    assert 0 < sb.used < sb.size


@pytest.mark.parametrize(
    ("options", "features"),
    [
        (("-t", "ext2", "-r", "0", "-O", "none"), frozenset()),
        (("-t", "ext2", "-O", "none,sparse_super"), {"sparse_super"}),
        (("-t", "ext3", "-O", "none,has_journal,filetype"), {"has_journal", "filetype"}),
        (("-O", "none,bigalloc,extent", "-C", "65536"), {"bigalloc", "extent"}),
        (("-O", "none,meta_bg,64bit,extent"), {"meta_bg", "64bit", "extent"}),
        (("-b", "1024", "-O", "none,bigalloc,extent", "-C", "16384"), {"bigalloc", "extent"}),
    ],
)
def test_real_ones_of_many_kinds(
    tmp_path: Path, options: tuple[str, ...], features: frozenset[str]
) -> None:
    sb = parse(made(tmp_path, 64 * MIB, *options))
    assert sb.features - {"large_file"} == features
    assert sb.size == 64 * MIB
    assert sb.clean
    if "bigalloc" in features:
        assert sb.cluster_size == int(options[-1])


def test_a_journal_of_unknown_size(modern: bytes) -> None:
    """Without a copy of its inode in the superblock."""
    assert parse(patched(modern, 0xFD, 0, 1)).journal_size == 0
    assert parse(patched(modern, 0xE0, 0)).journal_size == 0


def test_a_label_that_is_no_utf8_survives(modern: bytes) -> None:
    label = bytes(range(0xF0, 0x100))
    raw = modern[:0x78] + label + modern[0x88:]
    sb = parse(patched(raw, 0x34, 0, 2))
    assert sb.label.encode("utf-8", "surrogateescape") == label


def test_the_checksum_is_that_of_mke2fs(modern: bytes) -> None:
    assert checksum(modern) == int.from_bytes(modern[0x3FC:], "little")
    for at in (0x00, 0x18, 0x78, 0x3FB):
        damaged = bytearray(modern)
        damaged[at] ^= 1
        with pytest.raises(BadSuperblock):
            parse(bytes(damaged))


# RFC 3720, appendix B.4
@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_crc32c(data: bytes, crc: int) -> None:
    assert crc32c(0xFFFFFFFF, data) ^ 0xFFFFFFFF == crc


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_crc32c_goes_on(one: bytes, other: bytes) -> None:
    assert crc32c(crc32c(0xFFFFFFFF, one), other) == crc32c(0xFFFFFFFF, one + other)


@pytest.mark.parametrize(
    ("field", "offset", "value", "width"),
    [
        ("magic", 0x38, 0xEF52, 2),
        ("block size", 0x18, 7, 4),
        ("block size", 0x18, 0xFFFFFFFF, 4),
        ("larger block size", 0x18, 2, 4),
        ("no blocks", 0x04, 0, 4),
        ("2^48 blocks", 0x150, 1 << 16, 4),
        ("more free than there are", 0x0C, 98305, 4),
        ("more free inodes", 0x10, 0xFFFFFFFF, 4),
        ("more reserved", 0x08, 0xFFFFFFFF, 4),
        ("first data block", 0x14, 0, 4),
        ("blocks per group", 0x20, 0, 4),
        ("blocks per group", 0x20, 8193, 4),
        ("blocks per group", 0x20, 16384, 4),
        ("no inodes per group", 0x28, 0, 4),
        ("inodes per group", 0x28, 0xFFFFFFFF, 4),
        ("inodes", 0x00, 1, 4),
        ("inode size", 0x58, 0, 2),
        ("inode size", 0x58, 200, 2),
        ("inode size", 0x58, 2048, 2),
        ("revision", 0x4C, 2, 4),
        ("descriptors", 0xFE, 0, 2),
        ("descriptors", 0xFE, 48, 2),
        ("flex", 0x174, 32, 1),
    ],
)
def test_damage_is_found(modern: bytes, field: str, offset: int, value: int, width: int) -> None:
    damaged = patched(modern, offset, value, width)
    with pytest.raises(BadSuperblock):
        print(f"{field} was believed: {parse(damaged)}")


@pytest.mark.parametrize(
    ("offset", "value", "width"),
    [(0x3A, 0, 2), (0x3A, 3, 2), (0x60, 0x4 | 0x242, 4), (0x64, 0x1044B | 0x10000, 4)],
)
def test_what_is_not_clean(modern: bytes, offset: int, value: int, width: int) -> None:
    """Unclean state, errors, a journal to recover, orphans to clear."""
    keep = int.from_bytes(modern[offset : offset + width], "little") if width == 4 else 0
    assert parse(modern).clean
    assert not parse(patched(modern, offset, value | keep, width)).clean


def test_an_unknown_feature_is_named(modern: bytes) -> None:
    known = int.from_bytes(modern[0x60:0x64], "little")
    assert "unknown-incompat-0x40000000" in parse(patched(modern, 0x60, known | 1 << 30)).features


@given(st.one_of(st.binary(max_size=2000), st.binary(min_size=1024, max_size=1024)))
def test_any_bytes_are_a_superblock_or_bad(data: bytes) -> None:
    with pytest.raises(BadSuperblock):
        parse(data)
