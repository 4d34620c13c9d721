# SPDX-License-Identifier: GPL-2.0-only
"""A filesystem's tree, mounted, with what is to be known of its files."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bsync.acquire import loop, mount
from bsync.acquire.loop import Over
from bsync.acquire.span import Span
from bsync.acquire.walk import walk
from bsync.errors import CopyFailed, Damaged, Unavailable
from bsync.filesystems.ext.inodes import SpecialInodes, scan
from bsync.filesystems.ext.superblock import Ext
from bsync.filesystems.kind import BadSuperblock
from bsync.filesystems.kinds import by_files, kind_of
from bsync.ledger import Ledger
from bsync.model.arrays import Numbers
from bsync.model.layout import Filesystem
from bsync.run import run
from bsync.units import MIB

NEVER = 1 << 40  # seconds since 1970; no change is as late
_AHEAD = 128 * MIB  # of directories and attributes, read before a walk comes to them


@dataclass(frozen=True)
class Tree:
    """One mounted filesystem, and those of its files that need more than a plain copy."""

    path: Path
    special: SpecialInodes


@contextlib.contextmanager
def mounted_tree(
    ledger: Ledger, span: Span, like: Filesystem, *, writable: bool, since: int = NEVER
) -> Iterator[Tree]:  # fmt: skip
    """The filesystem in `span`, of the kind of `like`, privately mounted for the
    block.

    Read-only means read-only: the loop device below lets no write through, and the journal is
    not even looked at.  A writable one is on its device when the block ends well.
    """
    role = "destination" if writable else "source"
    with loop_over(ledger, span, writable=writable) as path:
        present = found_at(path, like)
        options = ["rw" if writable else "ro", "noatime"]
        options += by_files(present).mount_options(present, writable=writable)
        name = f"{role}-{span.device.descriptor}-{span.extent.start}"
        with mount.mounted(ledger, path, name, like.kind, options) as target:
            yield Tree(target, _look(path, present, since) or walk(target, since))
            if writable:
                mount.flush(target)


def recover(ledger: Ledger, path: str, present: Filesystem, *, anything: bool) -> None:
    """Let its tool, or the kernel, recover the journal of what is on the device `path`, and mend
    what can be mended unasked, or `anything`.  Raises `CopyFailed`."""
    files = by_files(present)
    if command := files.repairing(path, anything=anything):
        run(*command, ok=(0, 1))
        return
    options = ["rw", "noatime", *files.mount_options(present, writable=True)]
    try:
        with mount.mounted(ledger, path, "recovering", present.kind, options) as target:
            mount.flush(target)
    except Unavailable as error:
        raise CopyFailed(error.message, error.hint) from None


def check(ledger: Ledger, span: Span, present: Filesystem, *, writable: bool) -> None:
    """Let its own tool look at the filesystem in `span`, as it is on the medium.  Raises
    `CopyFailed` if that finds it damaged."""
    with loop_over(ledger, span, writable=writable) as path:
        if command := by_files(present).checking(path, writable=writable):
            run(*command)


@contextlib.contextmanager
def loop_over(ledger: Ledger, span: Span, *, writable: bool) -> Iterator[str]:
    """A loop device over `span`; if the block ends well, what was written is on the medium."""
    direct = not (writable and span.device.whole_pages)
    over = Over(span.device.descriptor, span.extent, writable, direct=direct)
    with loop.attached(ledger, over) as attached:
        yield attached.device
        if writable:
            attached.flush()
    if writable:
        span.flush()


def found_at(path: str, like: Filesystem) -> Filesystem:
    """The filesystem, of the kind of `like`, on the device `path`.  Raises `CopyFailed`."""
    kind = kind_of(like)
    try:
        with open(path, "rb", 0) as opened:
            found: Filesystem = kind.read(like.kind, _read(opened.fileno(), 0, kind.reach))
            return found
    except (OSError, BadSuperblock) as error:
        raise CopyFailed(f"the superblock cannot be read: {error}") from None


def overwrite_start(path: str, data: bytes) -> None:
    """Write `data` at the start of the device `path`, after all that was written to it before
    is on the disk, and see it there.  Raises `CopyFailed`."""
    try:
        with open(path, "r+b", 0) as opened:
            os.fsync(opened.fileno())
            if os.pwrite(opened.fileno(), data, 0) != len(data):
                raise OSError(0, "it is too short")
            os.fsync(opened.fileno())
    except OSError as error:
        raise CopyFailed(f"the destination cannot be written: {error.strerror}") from None


def _look(path: str, present: Filesystem, since: int) -> SpecialInodes | None:
    """Look through the inode tables of a mounted filesystem, where there are any: through the
    page cache, which mounting empties and in which the walks over the tree then find them."""
    if not isinstance(present, Ext):
        return None
    sb = present.superblock
    try:
        with open(path, "rb", 0) as opened:
            descriptor = opened.fileno()
            read = lambda at, size: _read(descriptor, at, size)  # noqa: E731
            return scan(read, sb, _Ahead(descriptor, sb.block_size), since)
    except OSError as error:
        raise CopyFailed(f"the inode tables cannot be read: {error.strerror}") from None
    except BadSuperblock as error:
        raise Damaged(f"the filesystem is damaged ({error})", "run e2fsck -f on it") from None


class _Ahead:
    """Has the kernel read blocks that will soon be wanted, while the run goes on: a walk would
    wait for each of them.  A hint, and no more: what fails will be read again, and be said."""

    def __init__(self, descriptor: int, block_size: int) -> None:
        self._descriptor = descriptor
        self._block_size = block_size
        self._left = _AHEAD // block_size

    def __call__(self, start: Numbers, length: Numbers) -> None:
        for first, count in zip(start.tolist(), length.tolist(), strict=True):
            self._left -= count
            if self._left < 0:
                return
            at, size = first * self._block_size, count * self._block_size
            with contextlib.suppress(OSError):
                os.posix_fadvise(self._descriptor, at, size, os.POSIX_FADV_WILLNEED)


def _read(descriptor: int, at: int, size: int) -> bytes:
    """`size` bytes at `at`; fewer are an error."""
    pieces = []
    while size > 0:
        piece = os.pread(descriptor, size, at)
        if not piece:
            raise OSError(0, "they end beyond the device")
        pieces.append(piece)
        at, size = at + len(piece), size - len(piece)
    return b"".join(pieces)
