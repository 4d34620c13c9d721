# SPDX-License-Identifier: GPL-2.0-only
"""What is on a device: a tree of volumes and their contents.  Pure, frozen; sizes in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from bsync.model.extent import Extent as Extent
from bsync.model.gpt import Gpt

BOOT_CODE = 446  # bytes of the MBR before the partition entries, disk signature included
BOOT_PROGRAM = 440  # bytes of them that are program; the disk signature follows
SIGNATURE_END = 512  # bytes of the MBR
PAGE = 4096  # bytes of a page of most machines

Path = tuple[str, ...]

EXTENDED_TYPES = frozenset({"5", "f", "85"})
BIOS_BOOT = "21686148-6449-6E6F-744E-656564454649"  # GPT type of GRUB's core image


@dataclass(frozen=True)
class Blank:
    """Nothing that any known signature names, and nothing but zeroes where it would be.

    `begun`: contents that a run of ours began to make and nobody has used since.
    """

    begun: bool = False


class Problem(Enum):
    """Why bsync does not know contents that something names; `{}` are the details."""

    NONE = "{type}"  # it is of a kind that is not supported
    DAMAGED = "{type} with a {0}"
    CUT_SHORT = "{type} cut short ({0} bytes in {1})"
    OLD = "{type} of version {0}"
    OTHER_BYTE_ORDER = "{type} of a machine with the other byte order"
    AMBIGUOUS = "signatures of several kinds"
    TABLE = "{type} partition table"  # of a kind that is not read, or where none is
    TABLE_TOO = "both {type} and a {0} partition table"
    TABLE_DAMAGED = "a damaged {type} partition table ({0})"
    TABLE_MISSING = "a protective MBR, and no GPT that can be relied on"
    OTHER_SECTORS = "a GPT for sectors of {0} bytes"


@dataclass(frozen=True)
class Unsupported:
    """Contents that bsync does not synchronise: named where known, otherwise unknown."""

    type: str = ""  # as blkid calls it
    uuid: str = ""
    label: str = ""
    problem: Problem = Problem.NONE
    details: tuple[str | int, ...] = ()  # of the problem
    start: str = ""  # a digest of how it begins, if not with zeroes alone
    at_end: bool = False  # what names it stands at the end of its place
    lies_at: int | None = None  # bytes on the disk where it says that it begins, if it says so

    @property
    def unknown(self) -> bool:
        """Whether nothing names it."""
        return not self.type and self.problem is Problem.NONE


class Facts(Protocol):
    """What the superblock of any filesystem tells; sizes in bytes."""

    @property
    def block_size(self) -> int: ...
    @property
    def unit(self) -> int:
        """The least that is read of it at a time: sectors of a disk may be no larger."""

    @property
    def uuid(self) -> str: ...
    @property
    def label(self) -> str: ...
    @property
    def size(self) -> int: ...
    @property
    def used(self) -> int: ...
    @property
    def clean(self) -> bool: ...
    @property
    def features(self) -> frozenset[str]: ...


@dataclass(frozen=True)
class Filesystem:
    """A filesystem that bsync synchronises; each kind has a class of its own."""

    kind: str  # as blkid and mount call it
    superblock: Facts
    boot_block: bool = False  # something stands before the superblock
    behind: bool = False  # something stands behind its last block, in its partition
    elsewhere: bool = False  # another machine has it mounted, as its sign of life (mmp) says
    unmapped: str = ""  # why its blocks in use are not known for certain; goes on "since …"
    lies_at: int | None = None  # bytes on the disk where it says that it begins, if it says so

    @property
    def uuid(self) -> str:
        return self.superblock.uuid

    @property
    def label(self) -> str:
        return self.superblock.label

    @property
    def size(self) -> int:
        return self.superblock.size

    @property
    def used(self) -> int:
        return self.superblock.used

    @property
    def clean(self) -> bool:
        return self.superblock.clean


@dataclass(frozen=True)
class Swap:
    """A swap area; `hibernated`: it holds the image of a sleeping machine."""

    uuid: str
    label: str
    hibernated: bool = False
    page_size: int = PAGE  # bytes, of the machine that uses it


@dataclass(frozen=True)
class Gap:
    """What stands between the table and the first partition, such as a boot loader: `ranges`
    without the zeroes at their ends, and a digest of what is in them."""

    ranges: tuple[Extent, ...] = ()
    digest: str = ""

    @property
    def size(self) -> int:
        return sum(extent.size for extent in self.ranges)


@dataclass(frozen=True)
class Volume:
    """A range of bytes with something in it: a device, or a part of the volume around it."""

    extent: Extent  # where it lies in the volume around it
    sector_size: int  # bytes
    content: Content
    path: Path = ()  # through which volumes it is reached: () the device, ("5",) a partition of it

    @property
    def size(self) -> int:
        """Bytes."""
        return self.extent.size

    def leaves(self) -> Iterator[Volume]:
        """All that holds something else than volumes, in the order of the tables: it itself, if it
        does."""
        if isinstance(self.content, Table):
            for part in self.content.filled:
                yield from part.leaves()
        else:
            yield self


@dataclass(frozen=True)
class Partition(Volume):
    """A volume that an entry of a table names.  `type` is the DOS type in hexadecimal, or the GPT
    type GUID."""

    type: str = ""
    bootable: bool = False
    uuid: str = ""  # GPT only, as are the name and the attributes
    name: str = ""
    attributes: str = ""

    @property
    def number(self) -> int:
        return int(self.path[-1])

    @property
    def is_extended(self) -> bool:
        return self.type in EXTENDED_TYPES


@dataclass(frozen=True)
class Table:
    """A partition table, and what is on its disk outside all partitions.

    `records` are its 512-byte sectors (MBR and EBRs; DOS only) by offset; `gpt` is the other
    kind's.
    """

    kind: str  # "dos" or "gpt"
    identifier: str
    partitions: tuple[Partition, ...]
    records: tuple[tuple[int, bytes], ...] = ()
    gpt: Gpt | None = None
    boot_code: bytes = b""  # the first 446 bytes
    gap: Gap = Gap()
    beside: str = ""  # a digest of what stands where the other side has its gap
    incomplete: bool = False  # its boot code says so

    def partition(self, number: int) -> Partition | None:
        return next((part for part in self.partitions if part.number == number), None)

    @property
    def end(self) -> int:
        """Bytes from the start of the disk to the end of the last partition."""
        return max((part.extent.end for part in self.partitions), default=0)

    @property
    def filled(self) -> tuple[Partition, ...]:
        """The partitions that have contents: all but the extended one."""
        return tuple(part for part in self.partitions if not part.is_extended)

    def extents(self, size: int) -> tuple[Extent, ...]:
        """What the table itself takes on a disk of `size` bytes."""
        if self.gpt:
            return self.gpt.extents(size)
        return tuple(Extent(at, len(record)) for at, record in self.records)


@dataclass(frozen=True)
class Disk(Volume):
    """A volume with a partition table."""

    content: Table

    @property
    def table(self) -> Table:
        return self.content


Content = Blank | Unsupported | Filesystem | Swap | Table


def bare(size: int, sector_size: int, content: Content) -> Volume:
    """A device of `size` bytes without a table."""
    return Volume(Extent(0, size), sector_size, content)


@dataclass(frozen=True)
class Side:
    """One end of the run: what the user calls it, what it is, and what is on it."""

    word: str
    description: str  # "image file", "Samsung SSD 870, serial S6PX…"
    layout: Volume
    room: int | None = None  # bytes that an image file may come to take; None where it is a device

    @property
    def extent(self) -> Extent:
        return self.layout.extent


def describe(content: Content) -> str:
    """A few words: `ext4 "root" 1111…`, `swap …`, `LVM2_member`, `nothing`."""
    match content:
        case Blank(begun=True):
            return "an incomplete clone"
        case Blank():
            return "nothing"
        case Unsupported(type=type_, problem=problem, details=details):
            return problem.value.format(*details, type=type_) or "unknown data"
        case Table(kind=kind):
            return f"{kind} partition table"
        case Filesystem(kind=kind):
            return " ".join(filter(None, (kind, _quoted(content.label))))
        case Swap(hibernated=True):
            return "swap with a hibernation image"
        case Swap(label=label, page_size=size):
            pages = "" if size == PAGE else f"with pages of {size >> 10} KiB"
            return " ".join(filter(None, ("swap", _quoted(label), pages)))


def _quoted(label: str) -> str:
    """A label as it may stand within a line: what cannot be printed is escaped."""
    quoted = f'"{label}"' if label.isprintable() and '"' not in label else repr(label)
    return quoted if label else ""
