#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""The yardstick: copy a number of bytes between two files, past the page cache, in large pieces.

It knows nothing of filesystems, and so is what a clone could cost at best: each piece is read
and written whole, one after the other; at the end everything is on the disk.

Usage: direct_copy.py SOURCE TARGET BYTES.  Pieces of the source that are nothing but a hole are
left out: a disk has to read what it copies.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

PIECE = 8 << 20  # bytes


def pieces(source: int, size: int) -> Iterator[int]:
    """Where the source's pieces begin that hold data; `source` is a descriptor."""
    position = 0
    while position < size:
        try:
            data = os.lseek(source, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # From here on there are only holes.
                return
            raise
        start = data // PIECE * PIECE
        yield start
        position = start + PIECE


def copy(source_path: Path, target_path: Path, wanted: int) -> int:
    """Copy at least `wanted` bytes if the source has them; return how many there were."""
    copied = 0
    with (
        mmap.mmap(-1, PIECE) as buffer,  # Aligned to pages, as direct I/O wants it.
        memoryview(buffer) as view,
        _opened(source_path, os.O_RDONLY) as source,
        _opened(target_path, os.O_WRONLY) as target,
    ):
        for start in pieces(source, os.fstat(source).st_size):
            if copied >= wanted:
                break
            count = os.preadv(source, [view], start)
            with view[:count] as part:
                if os.pwritev(target, [part], start) != count:
                    raise OSError(errno.EIO, "a short write")
            copied += count
        os.fsync(target)
    return copied


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_DIRECT | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def main() -> int:
    """Copy as the command line says; print the number of bytes."""
    print(copy(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
