# SPDX-License-Identifier: GPL-2.0-only
"""Bytes such as mkfs.xfs, the kernel and a clean unmount leave, as far as bsync reads them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from hypothesis import strategies as st

from bsync.model.allocation import Run

BLOCK, GROUP, SECTOR = 4096, 4096, 512  # bytes, blocks, bytes
BLOCKS = GROUP + 3000  # two groups, the second one shorter
LOG_BLOCKS = 32
LOG_AT = 100  # block of the second group
FIRST_FREE = 200  # block of each group from which on the extents given are free
UUID, OLD_UUID = b"u" * 16, b"o" * 16


@dataclass
class Image:
    """An XFS with these free extents, by group; its log ends in the sector `head`."""

    free: tuple[list[Run], ...]
    per_leaf: int = 4
    head: int = 9
    cycle: int = 3
    data: bytearray = field(init=False)
    written: list[tuple[int, int]] = field(default_factory=list)  # byte, bytes: what is read

    def __post_init__(self) -> None:
        self.data = bytearray(BLOCKS * BLOCK)
        counted = [self._group(number) for number in range(2)]
        self._superblock(sum(counted))
        self._log()

    def read(self, at: int, size: int) -> bytes:
        return bytes(self.data[at : at + size])

    def put(self, at: int, data: bytes) -> None:
        self.data[at : at + len(data)] = data
        self.written.append((at, len(data)))

    def change(self, at: int, layout: str, value: int) -> None:
        struct.pack_into(layout, self.data, at, value)

    def _superblock(self, free: int) -> None:
        data = bytearray(SECTOR)
        struct.pack_into(">4sIQ", data, 0, b"XFSB", BLOCK, BLOCKS)
        data[32:48] = UUID
        struct.pack_into(">Q", data, 48, 1 << 12 | LOG_AT)
        struct.pack_into(">IIIIHH", data, 84, GROUP, 2, 0, LOG_BLOCKS, 0xB4A5, SECTOR)
        struct.pack_into(">H", data, 104, 512)  # bytes of an inode
        data[124] = 12
        struct.pack_into(">Q", data, 144, free)
        struct.pack_into(">IIII", data, 208, 0, 0xF, 0xF, 0)
        data[248:264] = OLD_UUID
        self.put(0, bytes(data))

    def _group(self, number: int) -> int:
        """Returns how many blocks it counts as free."""
        free, base = self.free[number], number * GROUP
        length = min(GROUP, BLOCKS - base)
        blocks, listed = sum(count for _, count in free), 4
        roots, levels = zip(
            self._tree(base, 1, b"AB3B", free),
            self._tree(base, 50, b"AB3C", sorted(free, key=lambda run: (run[1], run[0]))),
            strict=True,
        )
        header = struct.pack(">4sIII", b"XAGF", 1, number, length)
        header += struct.pack(">IIIIII", *roots, 0, *levels, 0)
        header += struct.pack(">IIIIII", 0, 3, listed, blocks, 0, 2)
        self.put(base * BLOCK + SECTOR, header.ljust(SECTOR, b"\0"))
        return blocks + listed + 2

    def _tree(self, base: int, at: int, magic: bytes, records: list[Run]) -> tuple[int, int]:
        """A tree of one level or two, from block `at` on; its root and levels."""
        step = self.per_leaf
        leaves = [records[i : i + step] for i in range(0, len(records), step)] or [[]]
        for number, leaf in enumerate(leaves, 1):
            packed = b"".join(struct.pack(">II", *run) for run in leaf)
            self._node(base, at + number, magic, 0, len(leaf), packed)
        if len(leaves) == 1:
            return at + 1, 1
        keys = b"".join(struct.pack(">II", *leaf[0]) for leaf in leaves)
        room = (BLOCK - 56) // 12 * 8
        pointers = b"".join(struct.pack(">I", at + n) for n in range(1, len(leaves) + 1))
        self._node(base, at, magic, 1, len(leaves), keys.ljust(room, b"\0") + pointers)
        return at, 2

    def _node(self, base: int, at: int, magic: bytes, level: int, count: int, rest: bytes) -> None:
        place = (base + at) * BLOCK
        head = struct.pack(">4sHHII", magic, level, count, 0xFFFFFFFF, 0xFFFFFFFF)
        head += struct.pack(">QQ16sII", place // SECTOR, 0, OLD_UUID, base // GROUP, 0)
        self.put(place, head + rest)

    @property
    def log_byte(self) -> int:
        return (GROUP + LOG_AT) * BLOCK

    @property
    def record(self) -> int:
        """The byte at which the last record begins."""
        return self.log_byte + (self.head - 2) * SECTOR

    def _log(self) -> None:
        """Records of this round up to the head, the last of which is of an unmount."""
        for number in range(LOG_BLOCKS * BLOCK // SECTOR):
            cycle = self.cycle if number < self.head else self.cycle - 1
            self.change(self.log_byte + number * SECTOR, ">I", cycle)
        number = self.head - 2
        header = struct.pack(">IIIIQ", 0xFEEDBABE, self.cycle, 2, SECTOR, self.cycle << 32 | number)
        header = header.ljust(40, b"\0") + struct.pack(">I", 1)
        header = header.ljust(304, b"\0") + UUID + struct.pack(">I", 32768)
        self.put(self.record, header.ljust(SECTOR, b"\0"))
        self.put(self.record + SECTOR, struct.pack(">IIBB", self.cycle, 8, 0xAA, 0x20))


@st.composite
def extents(draw: st.DrawFn) -> list[Run]:
    """Free extents of a group; there is room for them in both."""
    found, at = [], FIRST_FREE
    for gap, count in draw(
        st.lists(st.tuples(st.integers(1, 90), st.integers(1, 90)), max_size=14)
    ):
        found.append((at + gap, count))
        at += gap + count
    return found


def images() -> st.SearchStrategy[Image]:
    """Sound ones, with one level of nodes or two, the log's head anywhere."""
    sectors = LOG_BLOCKS * BLOCK // SECTOR
    return st.builds(
        Image, st.tuples(extents(), extents()), st.sampled_from((4, 300)),
        st.integers(2, sectors), st.integers(1, 5),
    )  # fmt: skip
