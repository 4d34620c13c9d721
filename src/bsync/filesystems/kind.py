# SPDX-License-Identifier: GPL-2.0-only
"""What bsync can do with a kind of filesystem: a record of abilities.  Pure.

A kind is a folder here whose module `kind` has a `Kind`, and a line in `kinds`.  What a kind is not
able to do is None.  The stages ask; nothing else knows what a kind's tools are called.  Commands
are given with the device in them; sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from bsync.model.allocation import Allocation, Read
from bsync.model.arrays import Numbers
from bsync.model.layout import Filesystem
from bsync.units import MIB, size_text

Command = list[str]
Held = tuple[tuple[int, bytes], ...]  # (byte, what stands there), the first one at 0

F = TypeVar("F", bound=Filesystem)
F_contra = TypeVar("F_contra", bound=Filesystem, contravariant=True)


_MUCH = 16 * MIB  # bytes: the loss of less is not asked about


def much_lost(now: int, was: int) -> str:
    """How many bytes of contents a synchronisation takes away, if that is most of what was there,
    and no trifle; else empty."""
    lost = was >= _MUCH and now * 2 < was
    return f"about {size_text(was - now)} of {size_text(was)}" if lost else ""


def smallest_for(needed: Callable[[int], int], least: int) -> int:
    """Bytes of the smallest place, to a MiB and no less than `least`, that has what is `needed` on
    a place of some size."""
    size = least
    for _ in range(64):
        room = -(-needed(size) // MIB) * MIB
        if room <= size:
            break
        size = room
    while size > least and needed(size - MIB) <= size - MIB:  # a larger one may need less
        size -= MIB
    return size


class BadSuperblock(ValueError):
    """The bytes are not a superblock that can be relied on; the text says why."""


@dataclass(frozen=True)
class Obstacle:
    """Why a copy would not be a clone of a filesystem; `text` follows its name."""

    text: str
    hint: str


@dataclass(frozen=True)
class Trial:
    """A small filesystem on which to try whether this kernel can write one of its kind.

    `command`, followed by the device, makes it; `why` is said of the source where it fails.
    """

    size: int
    command: tuple[str, ...]
    type: str
    why: str


class ByFiles(Protocol[F_contra]):
    """A kind that is made anew by its tools, and whose files are copied.

    Modules answer to it, as to the other abilities.
    """

    @property
    def PROGRAMS(self) -> Sequence[str]:  # noqa: N802 a constant of the module
        """What has to be installed for writing one."""

    def obstacle(self, source: F_contra, /) -> Obstacle | None:
        """Why `source` cannot be cloned by its files, if so."""

    def writable(self, there: F_contra, /) -> bool:
        """Whether a clone of this make can be kept up to date."""

    def needed(self, source: F_contra, size: int, /) -> int:
        """Bytes that the contents of `source` need, made anew on `size` bytes."""

    def fits(self, source: F_contra, size: int, /) -> bool:
        """Whether they fit on `size` bytes."""

    def fits_into(self, source: F_contra, there: F_contra, /) -> bool:
        """Whether they fit into the filesystem that is there."""

    def smallest(self, source: F_contra, /) -> int:
        """Bytes of the smallest destination on which `source` fits."""

    def completed(self, there: F_contra, /) -> int | None:
        """When the clone `there` was last completed, in seconds since 1970, if that is known."""

    def unlike(self, source: F_contra, there: F_contra, /) -> str:
        """How the clone `there` was made otherwise than a new one would be."""

    def making(self, source: F_contra, size: int, device: str, /) -> Command:
        """The command that makes one like `source`, labelled as incomplete."""

    def trying(self, source: F_contra, size: int, file: str, /) -> Command:
        """The command that finds out whether `making` would succeed; empty: nothing to ask."""

    def marking(self, source: F_contra, present: F_contra, device: str, /) -> Command:
        """The command that marks `present` as an incomplete clone of `source`, and if it had to be
        repaired, lets it count as never completed."""

    def repairing(self, device: str, /, *, anything: bool) -> Command:
        """The command that recovers the journal and mends what can be mended unasked, or where
        nothing has to be kept, `anything` it can; its statuses 0 and 1 are good."""

    def checking(self, device: str, /, *, writable: bool) -> Command:
        """The command that finds damage: then its status is not 0.  Where the device is `writable`,
        it may note there that it looked.  Empty where there is none that leaves it alone."""

    def completing(self, source: F_contra, present: F_contra, device: str, /) -> list[Command]:
        """The commands that tune the finished clone, which stays marked."""

    def unmarking(self, source: F_contra, present: F_contra, device: str, /) -> list[Command]:
        """The commands that give the marked `present` the names of `source`, the label last."""

    def mount_options(self, present: F_contra, *, writable: bool) -> list[str]:
        """How it is mounted, besides ro or rw and noatime."""

    def trial(self, source: F_contra, /) -> Trial | None:
        """What to try on this kernel; None where every kernel can."""

    def grown(self, source: F_contra, there: F_contra, size: int, /) -> int:
        """Blocks that `there` has once it is grown on `size` bytes, so that `source` fits; 0 where
        that cannot be."""

    def most_names(self, there: F_contra, lengths: Sequence[int], /) -> int | None:
        """How many names are sure to fit into a directory of `there`, if these are the lengths of
        some of them; None where that has no bound."""

    def shortage(self, source: F_contra, there: F_contra, /) -> tuple[str, str]:
        """What the files of `source` need, and what `there` has of it, where that is too little."""


class ByBlocks(Protocol[F_contra]):
    """A kind whose blocks in use are known, and are copied as they are."""

    @property
    def SEARCHES(self) -> bool:  # noqa: N802
        """Whether its tables tell what has changed; else everything in use is compared."""

    def obstacle(self, source: F_contra, size: int, *, grow: bool) -> str:
        """Why `source` cannot be cloned by its blocks to `size` bytes, and then grown if it is to
        `grow`; empty where it can."""

    def is_clone(self, source: F_contra, there: F_contra, /) -> bool:
        """Whether `there` began as a copy of the blocks of `source`."""

    def smallest(self, source: F_contra, /) -> int:
        """Bytes of the smallest place to which `source` goes so."""

    def grown(self, source: F_contra, size: int, /) -> int:
        """Blocks that a clone has once it is grown to `size` bytes; those of `source`, if there is
        no room for more."""

    @property
    def GROWN_BY(self) -> Sequence[str]:  # noqa: N802
        """What has to be installed to grow one."""

    @property
    def MOUNTED_WITH(self) -> Sequence[str]:  # noqa: N802
        """The options that it is mounted with to be grown."""

    def growing(self, path: str, blocks: int, /) -> Command:
        """The command that grows what stands on the device, or is mounted, at `path`."""

    def notes(self, source: F_contra, here: int | None, there: int | None, /) -> tuple[str, ...]:
        """What is to be said of a clone of `source`.  Both begin at these bytes of their disks;
        None where they are alone on theirs."""


class Mapped(Protocol[F_contra]):
    """A kind whose blocks in use are told by a reader of its own; nothing tells what changed."""

    def allocation(self, source: F_contra, read: Read, /) -> Allocation:
        """Its blocks in use.  Raises `Unknown`."""

    def held(self, source: F_contra, read: Read, start: int | None, /) -> Held:
        """What is held back, and written last, of a clone that begins at byte `start` of its disk
        (None: it is alone there): whole blocks, without which nobody takes it for a filesystem."""

    def only_growth(self, source: F_contra, read: Read, there: Read, blocks: Numbers, /) -> bool:
        """Whether a clone, read by `there`, that differs in these `blocks` does so only because it
        was grown."""


def _as_found(found: F, read: Read) -> F:
    return found


def _nothing(content: Filesystem) -> None:
    return None


def _by_used(source: Filesystem, there: Filesystem) -> str:
    return much_lost(source.used, there.used)


@dataclass(frozen=True)
class Kind(Generic[F]):
    """One kind, and its abilities."""

    names: tuple[str, ...]  # what blkid calls it
    reach: int  # bytes of the filesystem's beginning that `read` needs
    # What blkid calls by a name and begins with these bytes.  Raises `BadSuperblock`.
    read: Callable[[str, bytes], F]
    # What a synchronisation takes away from the second, if that is most of what is there.
    emptied: Callable[[F, F], str] = _by_used
    # Why no copy of any kind would be whole, if so.
    unsettled: Callable[[F], Obstacle | None] = _nothing
    # The same, with what only the rest of the filesystem tells.
    look: Callable[[F, Read], F] = _as_found
    # What can be set besides UUID and label, for comparing two filesystems.
    tuning: Callable[[F], object] = _nothing
    # Its beginning, as if it had been written so many seconds before.
    backdated: Callable[[bytes, int], bytes] | None = None
    files: ByFiles[F] | None = None
    blocks: ByBlocks[F] | None = None
    mapped: Mapped[F] | None = None
