"""A filesystem's tree, mounted, with what its inode tables tell."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bsync.acquire import loop, mount
from bsync.acquire.block import Device
from bsync.acquire.loop import Over
from bsync.errors import CopyFailed
from bsync.filesystems.ext import superblock
from bsync.filesystems.ext.inodes import Remarkable, scan
from bsync.filesystems.ext.superblock import Superblock
from bsync.layout import Extent
from bsync.ledger import Ledger


@dataclass(frozen=True)
class Tree:
    """One mounted filesystem, and what its inode tables told before it was mounted."""

    path: Path
    remarkable: Remarkable


@contextlib.contextmanager
def mounted_tree(
    ledger: Ledger, device: Device, extent: Extent, kind: str, *, writable: bool
) -> Iterator[Tree]:
    """The filesystem in `extent` of `device`, privately mounted for the block.

    Read-only means read-only: the loop device below lets no write through, and the journal is
    not even looked at.  A writable one is on its device when the block ends well.
    """
    role = "destination" if writable else "source"
    with loop_over(ledger, device, extent, writable=writable) as path:
        sb = superblock_at(path)
        remarkable = _look(path, sb)
        options = ["rw" if writable else "ro", "noatime"]
        options.append("errors=remount-ro")  # whatever it says itself: it might say panic
        if not writable and "has_journal" in sb.features:
            options.append("noload")
        name = f"{role}-{device.descriptor}-{extent.start}"
        with mount.mounted(ledger, path, name, kind, options) as target:
            yield Tree(target, remarkable)
            if writable:
                mount.flush(target)


@contextlib.contextmanager
def loop_over(ledger: Ledger, device: Device, extent: Extent, *, writable: bool) -> Iterator[str]:
    """A loop device over `extent`, flushed at the end if it is writable."""
    with loop.attached(ledger, Over(device.descriptor, extent, writable)) as path:
        yield path
        if writable:
            _flush(path)


def superblock_at(path: str) -> Superblock:
    """The superblock of the filesystem on the device `path`.  Raises `CopyFailed`."""
    try:
        with open(path, "rb", 0) as opened:
            return superblock.parse(_read(opened.fileno(), superblock.OFFSET, superblock.SIZE))
    except (OSError, superblock.BadSuperblock) as error:
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


def _look(path: str, sb: Superblock) -> Remarkable:
    """Look through the inode tables: through the page cache, where the walk over the mounted
    tree then finds them."""
    try:
        with open(path, "rb", 0) as opened:
            return scan(lambda at, size: _read(opened.fileno(), at, size), sb)
    except OSError as error:
        raise CopyFailed(f"the inode tables cannot be read: {error.strerror}") from None


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


def _flush(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CopyFailed(f"the destination cannot be flushed: {error.strerror}") from None
