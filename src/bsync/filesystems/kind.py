"""What bsync asks of each kind of filesystem that it synchronises.  Pure.

A kind is a folder here whose module `kind` answers to `Kind`, a class in `layout` for what is
found of it, and a line in `kinds`.  The stages ask; nothing else knows what a kind's tools are
called.  Commands are given with the device in them; sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from bsync.units import MIB, size_text

Command = list[str]
Read = Callable[[int, int], bytes]  # (offset, size) in bytes from the filesystem's start
F = TypeVar("F")


_MUCH = 16 * MIB  # bytes: the loss of less is not asked about


def much_lost(now: int, was: int) -> str:
    """How many bytes of contents a synchronisation takes away, if that is most of what was there,
    and no trifle; else empty."""
    lost = was >= _MUCH and now * 2 < was
    return f"about {size_text(was - now)} of {size_text(was)}" if lost else ""


class BadSuperblock(ValueError):
    """The bytes are not a superblock that can be relied on; the text says why."""


@dataclass(frozen=True)
class Obstacle:
    """Why a copy of its files would not be a mirror of a filesystem; `text` follows its name."""

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


class Kind(Protocol[F]):
    """One kind; F is its class in `layout`."""

    @property
    def NAMES(self) -> Sequence[str]:  # noqa: N802 a constant of the module
        """What blkid calls it."""

    @property
    def REACH(self) -> int:  # noqa: N802
        """How much of the filesystem's beginning `read` needs."""

    @property
    def PROGRAMS(self) -> Sequence[str]:  # noqa: N802
        """What has to be installed for writing one."""

    def read(self, name: str, data: bytes, /) -> F:
        """What blkid calls `name` and begins with `data`.  Raises `BadSuperblock`."""

    def in_use(self, found: F, read: Read, /) -> bool:
        """Whether it says itself that some machine has it mounted; `read` reads from it."""

    # --- for the plan

    def obstacle(self, source: F, /) -> Obstacle | None:
        """Why `source` cannot be mirrored by its files, if so."""

    def writable(self, there: F, /) -> bool:
        """Whether a mirror of this make can be kept up to date."""

    def needed(self, source: F, size: int, /) -> int:
        """Bytes that the contents of `source` need, made anew on `size` bytes."""

    def fits(self, source: F, size: int, /) -> bool:
        """Whether they fit on `size` bytes."""

    def fits_into(self, source: F, there: F, /) -> bool:
        """Whether they fit into the filesystem that is there."""

    def smallest(self, source: F, /) -> int:
        """Bytes of the smallest destination on which `source` fits."""

    def completed(self, there: F, /) -> int | None:
        """When the clone `there` was last completed, in seconds since 1970, if that is known."""

    def emptied(self, source: F, there: F, /) -> str:
        """What a synchronisation takes away, if that is most of what is there."""

    def unlike(self, source: F, there: F, /) -> str:
        """How the mirror `there` was made otherwise than a new one would be."""

    def tuning(self, content: F, /) -> object:
        """What `completing` sets besides UUID and label, for comparing two filesystems."""

    # --- for the steps

    def making(self, source: F, size: int, device: str, /) -> Command:
        """The command that makes one like `source`, labelled as incomplete."""

    def rehearsing(self, source: F, size: int, file: str, /) -> Command:
        """The command that finds out whether `making` would succeed; empty: nothing to ask."""

    def marking(self, source: F, present: F, device: str, /) -> Command:
        """The command that marks `present` as an unfinished mirror of `source`."""

    def repairing(self, device: str, /) -> Command:
        """The command that recovers the journal and mends what can be mended unasked; its
        statuses 0 and 1 are good."""

    def checking(self, device: str, /) -> Command:
        """The command that finds damage: then its status is not 0.  Empty where there is none that
        leaves the filesystem alone."""

    def completing(self, source: F, present: F, device: str, /) -> list[Command]:
        """The commands that tune the finished clone, which stays marked."""

    def unmarking(self, source: F, present: F, device: str, /) -> list[Command]:
        """The commands that give the marked `present` the names of `source`, the label last."""

    def mount_options(self, present: F, *, writable: bool) -> list[str]:
        """How it is mounted, besides ro or rw and noatime."""

    def trial(self, source: F, /) -> Trial | None:
        """What to try on this kernel; None where every kernel can."""
