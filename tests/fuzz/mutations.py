# SPDX-License-Identifier: GPL-2.0-only
"""Small real disks, and ways to damage them that reach behind the checksums."""

from __future__ import annotations

import os
import struct
import subprocess
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

from hypothesis import strategies as st

from bsync.filesystems.ext import superblock

MIB, SECTOR = 1 << 20, 512
Damage = Callable[[bytearray], None]
UUID = "11111111-2222-4333-8444-555555555555"

_DOS = """
label: dos
label-id: 0x12345678
start=2048, size=6144, type=83, bootable
start=8192, size=14336, type=5
start=10240, size=2048, type=82
start=14336, size=4096, type=83
"""
_GPT = """
label: gpt
label-id: AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE
start=2048, size=2048, type=21686148-6449-6E6F-744E-656564454649
start=4096, size=6144, name="root", attrs="GUID:59"
start=10240, size=2048, type=0657FD6D-A4AB-43C4-84E5-0933C84B4F4F
"""


# --- real ones ----------------------------------------------------------------------------


def _call(*argv: str | Path, given: str | None = None) -> None:
    environment = {**os.environ, "MKE2FS_CONFIG": "/dev/null", "LC_ALL": "C.UTF-8"}
    subprocess.run(argv, input=given, text=True, check=True, capture_output=True, env=environment)


def _sized(image: Path, size: int) -> None:
    with image.open("wb") as file:
        file.truncate(size)


def _ext(image: Path, start: int, size: int, kind: str, *options: str) -> None:
    _call(
        "mke2fs", "-q", "-F", "-t", kind, "-U", UUID, "-L", "data", "-b", "1024", "-N", "64",
        "-E", f"hash_seed={UUID},offset={start}", *options, image, f"{size // 1024}k",
    )  # fmt: skip


def _swap(image: Path, start: int, size: int) -> None:
    made = image.with_suffix(".swap")
    _sized(made, size)
    made.chmod(0o600)
    _call("mkswap", "--uuid", UUID, made)
    with image.open("r+b") as file:
        file.seek(start)
        file.write(made.read_bytes()[:4096])
    made.unlink()


def dos_disk(image: Path) -> None:
    """Two filesystems and swap; a primary, an extended and two logical partitions."""
    _sized(image, 12 * MIB)
    _call("sfdisk", "--quiet", image, given=_DOS)
    _ext(image, MIB, 3 * MIB, "ext4", "-O", "none,extent,metadata_csum,64bit,flex_bg")
    _swap(image, 5 * MIB, MIB)
    _ext(image, 7 * MIB, 2 * MIB, "ext2", "-O", "none,filetype,sparse_super")


def gpt_disk(image: Path) -> None:
    """A core image, a filesystem, swap."""
    _sized(image, 8 * MIB)
    _call("sfdisk", "--quiet", image, given=_GPT)
    _ext(image, 2 * MIB, 3 * MIB, "ext4", "-O", "none,extent,metadata_csum,64bit,flex_bg")
    _swap(image, 5 * MIB, MIB)


def ext_disk(image: Path) -> None:
    """A filesystem with a journal, and no table."""
    _sized(image, 8 * MIB)
    features = "none,has_journal,extent,metadata_csum,64bit,flex_bg,resize_inode,sparse_super"
    _ext(image, 0, 8 * MIB, "ext4", "-O", features, "-J", "size=1", "-I", "256")


# --- damage -------------------------------------------------------------------------------

EDGES = (0, 1, 2, 3, 7, 8, 63, 255, 256, 1023, 1024, 2047, 2048, 4096, 8191, 8192, 32768, 65535,
         65536, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 48, (1 << 63) - 1, 1 << 63,
         (1 << 64) - 1)  # fmt: skip


def values(width: int) -> st.SearchStrategy[int]:
    """Numbers of `width` bytes: those at the edges above all."""
    most = (1 << 8 * width) - 1
    near = st.sampled_from([edge for edge in EDGES if edge <= most])
    return st.one_of(near, near, st.integers(0, most))


def put(data: bytearray, offset: int, value: int, width: int) -> None:
    """A little-endian number."""
    data[offset : offset + width] = value.to_bytes(width, "little")


def _number(offset: int, width: int) -> st.SearchStrategy[Damage]:
    return values(width).map(lambda value: lambda data: put(data, offset, value, width))


def _slightly(offset: int, width: int) -> st.SearchStrategy[Damage]:
    """A number that is nearly the right one."""

    def shift(by: int) -> Damage:
        def damage(data: bytearray) -> None:
            value = int.from_bytes(data[offset : offset + width], "little") + by
            put(data, offset, value % (1 << 8 * width), width)

        return damage

    return st.integers(-2049, 2049).map(shift)


def _bit(where: Sequence[tuple[int, int]]) -> st.SearchStrategy[Damage]:
    """One bit within one of the (offset, size) ranges."""

    def flip(place: tuple[int, int], at: int, bit: int) -> Damage:
        def damage(data: bytearray) -> None:
            data[place[0] + at % place[1]] ^= 1 << bit

        return damage

    return st.builds(flip, st.sampled_from(where), st.integers(0, 1 << 16), st.integers(0, 7))


def _junk(where: Sequence[tuple[int, int]]) -> st.SearchStrategy[Damage]:
    """A few bytes within one of the ranges."""

    def overwrite(place: tuple[int, int], at: int, junk: bytes) -> Damage:
        def damage(data: bytearray) -> None:
            start = place[0] + at % place[1]
            data[start : start + len(junk)] = junk[: len(data) - start]

        return damage

    junk = st.one_of(st.binary(min_size=1, max_size=64), st.sampled_from((bytes(64), b"\xff" * 64)))
    return st.builds(overwrite, st.sampled_from(where), st.integers(0, 1 << 16), junk)


_RECORDS = (0, 4 * MIB, 6 * MIB)  # the MBR and both EBRs
_EXTENDED = 4 * MIB // SECTOR


def _dos_entry() -> st.SearchStrategy[Damage]:
    """A field of one of the entries of a record: where it starts, how large it is, its type."""
    record, entry = st.sampled_from(_RECORDS), st.integers(0, 3)
    base = st.builds(lambda at, index: at + 446 + 16 * index, record, entry)
    kinds = st.sampled_from((0, 5, 0x0F, 0x82, 0x83, 0x85, 0xEE))
    return base.flatmap(
        lambda at: st.one_of(
            _number(at + 8, 4),
            _number(at + 12, 4),
            _slightly(at + 8, 4),
            _slightly(at + 12, 4),
            kinds.map(lambda kind: lambda data: put(data, at + 4, kind, 1)),
            _number(at, 1),
        )
    )


def _dos_link() -> st.SearchStrategy[Damage]:
    """A record that points to a record: itself, the first, the MBR, or nowhere."""

    def link(record: int, target: int, kind: int, index: int) -> Damage:
        def damage(data: bytearray) -> None:
            entry = struct.pack("<B3sB3sII", 0, b"", kind, b"", target, 2048)
            data[record + 446 + 16 * index : record + 462 + 16 * index] = entry

        return damage

    targets = st.sampled_from((0, 1, 2048, 4096, (1 << 32) - _EXTENDED, 10240, 14335))
    return st.builds(
        link, st.sampled_from(_RECORDS[1:]), targets, st.sampled_from((5, 15, 133)),
        st.integers(0, 1),
    )  # fmt: skip


def dos_damage() -> st.SearchStrategy[list[Damage]]:
    """Up to four kinds of damage to the records of a DOS table."""
    where = [(at, SECTOR) for at in _RECORDS]
    one = st.one_of(_dos_entry(), _dos_entry(), _dos_link(), _bit(where), _junk(where))
    return st.lists(one, min_size=1, max_size=4)


_HEADER, _ENTRIES, _COUNT = SECTOR, 2 * SECTOR, 128
_HEADER_FIELDS = ((8, 4), (12, 4), (24, 8), (32, 8), (40, 8), (48, 8), (56, 16), (72, 8), (80, 4),
                  (84, 4))  # fmt: skip


def _gpt_header() -> st.SearchStrategy[Damage]:
    return st.sampled_from(_HEADER_FIELDS).flatmap(
        lambda field: st.one_of(_number(_HEADER + field[0], field[1]),
                                _slightly(_HEADER + field[0], field[1]))
    )  # fmt: skip


def _gpt_entry() -> st.SearchStrategy[Damage]:
    base = st.integers(0, 4).map(lambda index: _ENTRIES + 128 * index)
    name = st.text(max_size=36).map(lambda text: text.encode("utf-16-le", "surrogatepass")[:72])
    return base.flatmap(
        lambda at: st.one_of(
            _number(at + 32, 8),
            _number(at + 40, 8),
            _slightly(at + 32, 8),
            _slightly(at + 40, 8),
            _number(at + 48, 8),
            st.binary(min_size=72, max_size=72).map(
                lambda junk: lambda data: data.__setitem__(slice(at + 56, at + 128), junk)
            ),
            name.map(
                lambda text: (
                    lambda data: data.__setitem__(slice(at + 56, at + 128), text.ljust(72, b"\0"))
                )
            ),
        )
    )


def _gpt_summed(both: bool) -> Damage:
    """Checksums that fit what is there now; `both`: the second copy is damaged alike."""

    def damage(data: bytearray) -> None:
        entries = bytes(data[_ENTRIES : _ENTRIES + 128 * _COUNT])
        put(data, _HEADER + 88, zlib.crc32(entries), 4)
        _sum_header(data, _HEADER)
        if both:
            last = len(data) // SECTOR - 1
            copy = (last - 32) * SECTOR
            data[copy : copy + len(entries)] = entries
            data[last * SECTOR :] = data[_HEADER : _HEADER + SECTOR]
            put(data, last * SECTOR + 24, last, 8)
            put(data, last * SECTOR + 32, 1, 8)
            put(data, last * SECTOR + 72, last - 32, 8)
            _sum_header(data, last * SECTOR)

    return damage


def _sum_header(data: bytearray, at: int) -> None:
    size = min(max(int.from_bytes(data[at + 12 : at + 16], "little"), 92), SECTOR)
    put(data, at + 16, 0, 4)
    put(data, at + 16, zlib.crc32(bytes(data[at : at + size])), 4)


def gpt_damage() -> st.SearchStrategy[list[Damage]]:
    """Damage to a GPT, mostly with checksums that fit."""
    where = [(0, SECTOR), (_HEADER, 92), (_ENTRIES, 128 * 5), (8 * MIB - SECTOR, 92)]
    one = st.one_of(_gpt_header(), _gpt_entry(), _gpt_entry(), _bit(where), _junk(where))
    summed = st.sampled_from(([], [_gpt_summed(False)], [_gpt_summed(True)], [_gpt_summed(True)]))
    return st.builds(lambda some, last: some + last, st.lists(one, min_size=1, max_size=3), summed)


_SB_FIELDS = (
    *((at, 4) for at in range(0x00, 0x34, 4)), (0x34, 2), (0x36, 2), (0x38, 2), (0x3A, 2),
    (0x3E, 2), *((at, 4) for at in range(0x40, 0x50, 4)), (0x50, 2), (0x52, 2),
    (0x54, 4), (0x58, 2), (0x5A, 2), (0x5C, 4), (0x60, 4), (0x64, 4), (0xCE, 2), (0xE0, 4),
    (0xFC, 1), (0xFD, 1), (0xFE, 2), (0x100, 4), (0x104, 4), (0x148, 4), (0x14C, 4), (0x150, 4),
    (0x154, 4), (0x158, 4), (0x174, 1), (0x175, 1), (0x240, 4), (0x244, 4), (0x26C, 4),
    (0x270, 4), (0x274, 1),
)  # fmt: skip
_FEATURE_WORDS = (0x5C, 0x60, 0x64)


def _sb_features(start: int) -> st.SearchStrategy[Damage]:
    def toggle(word: int, bit: int) -> Damage:
        def damage(data: bytearray) -> None:
            at = start + word
            put(data, at, int.from_bytes(data[at : at + 4], "little") ^ 1 << bit, 4)

        return damage

    return st.builds(toggle, st.sampled_from(_FEATURE_WORDS), st.integers(0, 31))


def _sb_name(start: int) -> st.SearchStrategy[Damage]:
    """The label and the mount options: any bytes that a disk may have."""

    def write(at: int, size: int, text: bytes) -> Damage:
        def damage(data: bytearray) -> None:
            data[start + at : start + at + size] = text[:size].ljust(size, b"\0")

        return damage

    return st.one_of(
        st.builds(write, st.just(0x78), st.just(16), st.binary(max_size=16)),
        st.builds(write, st.just(0x200), st.just(64), st.binary(max_size=64)),
    )


def summed(start: int) -> Damage:
    """A checksum that fits the superblock at `start` as it is now."""

    def damage(data: bytearray) -> None:
        value = superblock.checksum(bytes(data[start : start + superblock.SIZE]))
        put(data, start + 0x3FC, value, 4)

    return damage


def sb_damage(start: int) -> st.SearchStrategy[list[Damage]]:
    """Damage to the superblock at `start`, mostly with a checksum that fits."""
    field = st.sampled_from(_SB_FIELDS).flatmap(
        lambda found: st.one_of(_number(start + found[0], found[1]),
                                _slightly(start + found[0], found[1]))
    )  # fmt: skip
    where = [(start, superblock.SIZE)]
    one = st.one_of(field, field, field, _sb_features(start), _sb_name(start), _bit(where),
                    _junk(where))  # fmt: skip
    end = st.sampled_from(([], [summed(start)], [summed(start)], [summed(start)]))
    return st.builds(lambda some, last: some + last, st.lists(one, min_size=1, max_size=3), end)


def damaged(data: bytes, damage: Sequence[Damage]) -> bytes:
    """`data` after all of `damage`, at its old size."""
    changed = bytearray(data)
    for one in damage:
        one(changed)
    if len(changed) != len(data):  # junk at the very end
        changed = changed[: len(data)].ljust(len(data), b"\0")
    return bytes(changed)
