# SPDX-License-Identifier: GPL-2.0-only
"""What a run is going to do: frozen steps, in the order in which they happen.  Pure.

    WriteTable          the source's records, or a script for sfdisk
    SetTable            what differs in a table that is kept, or is damaged in it
    Disarm              the boot code says that the disk is incomplete
    MakeFilesystem      a new filesystem, marked incomplete from the start
    MarkFilesystem      an existing clone, marked incomplete
    MarkBlocks          a place for a clone by blocks, marked incomplete
    MakeSwap            a new swap area
    GrowExt             a clone made larger, up to the end of its partition
    CopyFiles           what differs, or everything
    CopyBlocks          the same, by blocks
    CopyRaw             contents of unknown kind, byte by byte or by their blocks in use
    CompleteFilesystem  the marker is taken away
    CompleteBlocks      the same, of a clone by blocks
    WriteBoot           the boot code and what stands before the first partition

Everything that can be taken for a finished clone (marker, boot code) is first taken away and
comes back last, after all partitions are done: a step's `phase` says when it happens, `programs`
what has to be installed for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, IntEnum, auto
from typing import ClassVar

from bsync.filesystems.kinds import by_blocks, by_files
from bsync.model.layout import Extent, Filesystem, Side, Swap


class Phase(IntEnum):
    """When a step happens: all of one phase before the first of the next."""

    TABLE = auto()
    DISARM = auto()
    PREPARE = auto()
    GROW = auto()
    COPY = auto()
    COMPLETE = auto()
    BOOT = auto()


Programs = tuple[str, ...]


@dataclass(frozen=True)
class Place:
    """Where contents come from and go to.  `number` 0 is the whole device."""

    number: int
    source: Extent
    destination: Extent

    @property
    def name(self) -> str:
        return f"partition {self.number}" if self.number else "whole device"

    @property
    def at_source(self) -> str:
        return f"source ({self.name})"

    @property
    def at_destination(self) -> str:
        return f"destination ({self.name})"


@dataclass(frozen=True)
class Disarm:
    """Replace the boot program, so that the incomplete clone does not boot."""

    phase: ClassVar[Phase] = Phase.DISARM
    programs: ClassVar[Programs] = ()
    reason: str
    cost: int = 440


@dataclass(frozen=True)
class WriteTable:
    """Write a table: the `records` as they are, or `script` through sfdisk."""

    phase: ClassVar[Phase] = Phase.TABLE
    programs: ClassVar[Programs] = ("sfdisk", "wipefs")
    kind: str
    reason: str
    records: tuple[tuple[int, bytes], ...] = ()
    script: str = ""

    @property
    def cost(self) -> int:
        return sum(len(record) for _, record in self.records) or len(self.script)


@dataclass(frozen=True)
class SetTable:
    """Write those `records` of a table that is kept, from the last to the first."""

    phase: ClassVar[Phase] = Phase.TABLE
    programs: ClassVar[Programs] = ()
    kind: str
    reason: str
    records: tuple[tuple[int, bytes], ...]

    @property
    def cost(self) -> int:
        return sum(len(record) for _, record in self.records)


@dataclass(frozen=True)
class MakeFilesystem:
    """Make a filesystem like `source`, marked incomplete."""

    phase: ClassVar[Phase] = Phase.PREPARE
    place: Place
    source: Filesystem
    reason: str
    cost: int = 0

    @property
    def programs(self) -> Programs:
        return ("wipefs", "blkdiscard", *by_files(self.source).PROGRAMS)


@dataclass(frozen=True)
class MarkFilesystem:
    """Mark the clone that is there as incomplete, after a check if it needs one."""

    phase: ClassVar[Phase] = Phase.PREPARE
    place: Place
    source: Filesystem
    present: Filesystem
    reason: str
    cost: int = 0

    @property
    def programs(self) -> Programs:
        return tuple(by_files(self.source).PROGRAMS)


@dataclass(frozen=True)
class GrowExt:
    """Let the clone, marked already, have as many `blocks` as its partition holds."""

    phase: ClassVar[Phase] = Phase.GROW
    programs: ClassVar[Programs] = ("e2fsck", "resize2fs")
    place: Place
    blocks: int
    size: int  # bytes that these are
    reason: str
    cost: int = 0


@dataclass(frozen=True)
class CopyFiles:
    """Make the files of one filesystem those of the other.  `cost` is the most it may be."""

    phase: ClassVar[Phase] = Phase.COPY
    programs: ClassVar[Programs] = ("rsync", "mount", "umount", "sync")
    place: Place
    source: Filesystem
    fresh: bool
    reason: str
    cost: int
    checksum: bool = False  # compare contents, not times and sizes
    since: int | None = None  # seconds since 1970: compare the contents of what changed since then
    engine: str = "files"


@dataclass(frozen=True)
class CompleteFilesystem:
    """Give the finished clone the source's UUID, label and tuning."""

    phase: ClassVar[Phase] = Phase.COMPLETE
    programs: ClassVar[Programs] = ()
    place: Place
    source: Filesystem
    reason: str
    cost: int = 0


@dataclass(frozen=True)
class MakeSwap:
    """Make a swap area with the source's UUID and label."""

    phase: ClassVar[Phase] = Phase.PREPARE
    programs: ClassVar[Programs] = ("mkswap", "wipefs")
    place: Place
    source: Swap
    reason: str
    cost: int = 0


@dataclass(frozen=True)
class CopyRaw:
    """Copy every byte that differs.

    `fresh`: what stands there is nobody's, or lost, and its signatures are erased first, at the
    end too.
    """

    phase: ClassVar[Phase] = Phase.COPY
    place: Place
    what: str
    reason: str
    cost: int
    fresh: bool = False
    engine: str = "raw"

    @property
    def programs(self) -> Programs:
        return ("wipefs",) if self.fresh else ()


@dataclass(frozen=True)
class WriteBoot:
    """Write the boot code (446 bytes at 0) and what differs in the ranges of the `gap`, which are
    the same on both sides."""

    phase: ClassVar[Phase] = Phase.BOOT
    programs: ClassVar[Programs] = ()
    boot_code: bytes
    gap: tuple[Extent, ...]
    reason: str
    restores: bool = False  # what a stub has replaced meanwhile, and nothing else

    @property
    def cost(self) -> int:
        return len(self.boot_code) + sum(extent.size for extent in self.gap)


class Way(Enum):
    """How the blocks engine brings a destination up to date."""

    FRESH = "fresh"  # every block in use is copied
    RESUME = "resume"  # every block in use is compared, since some may be there already
    COMPARE = "compare"  # every block in use is compared
    CHANGES = "changes"  # the inode tables tell what is compared


@dataclass(frozen=True)
class MarkBlocks:
    """Find what differs, and say that the destination is being written unless nothing does."""

    phase: ClassVar[Phase] = Phase.PREPARE
    programs: ClassVar[Programs] = ("wipefs", "blkdiscard")
    place: Place
    source: Filesystem
    way: Way
    reason: str
    always: bool = False  # even where nothing differs, since the clone is to grow
    cost: int = 0


@dataclass(frozen=True)
class CopyBlocks:
    """Make the blocks of one filesystem those of the other.  `cost` is the most it may be."""

    phase: ClassVar[Phase] = Phase.COPY
    programs: ClassVar[Programs] = ()
    place: Place
    source: Filesystem
    way: Way
    reason: str
    cost: int
    engine: str = "blocks"

    @property
    def fresh(self) -> bool:
        return self.way is Way.FRESH


@dataclass(frozen=True)
class CompleteBlocks:
    """Write the superblock of the finished clone, once it has as many blocks as `grow` says;
    0: it stays as large as its source."""

    phase: ClassVar[Phase] = Phase.COMPLETE
    place: Place
    source: Filesystem
    grow: int
    reason: str
    cost: int = 0

    @property
    def programs(self) -> Programs:
        return tuple(by_blocks(self.source).GROWN_BY) if self.grow else ()


Making = MakeFilesystem | MarkFilesystem | MarkBlocks | MakeSwap | GrowExt
Copying = CopyFiles | CopyBlocks | CopyRaw
Completing = CompleteFilesystem | CompleteBlocks
Step = Disarm | WriteTable | SetTable | Making | Copying | Completing | WriteBoot


@dataclass(frozen=True)
class Options:
    """What the user may choose."""

    engine: str = "auto"
    raw: bool = False
    checksum: bool = False
    grow: bool = True  # a clone by blocks, to the size of its place


@dataclass(frozen=True)
class Plan:
    """Everything a run will do, and everything it needs an answer for first."""

    source: Side
    destination: Side
    steps: tuple[Step, ...]
    destroys: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default_factory=tuple)
    places: tuple[Place, ...] = ()  # of all that the source holds

    @property
    def cost(self) -> int:
        """The most bytes that may be written."""
        return sum(step.cost for step in self.steps)
