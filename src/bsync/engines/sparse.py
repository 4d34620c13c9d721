# SPDX-License-Identifier: GPL-2.0-only
"""Files with holes, copied by their data alone.

rsync reads a hole like any other part of a file: a lastlog of some kilobytes takes it as
long as the terabyte that its size says.  And its `--sparse` writes every file of the tree in
pieces of a kilobyte.  So the files with holes are copied here beforehand, with SEEK_DATA and
SEEK_HOLE of lseek(2); rsync, told nothing of holes, then finds their size and time right and
only sees to their attributes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from bsync import pace
from bsync.acquire.mount import flush
from bsync.engines.rsync import Transfer
from bsync.units import MIB

_PIECE = MIB
_BLOCK = 4096  # bytes; no filesystem has smaller holes worth keeping


def copy_all(
    source: Path,
    destination: Path,
    groups: list[list[bytes]],
    make_room: Callable[[], Transfer],
    *,
    checksum: bool = False,
) -> Transfer:
    """Copy each group of paths (the hard links of one file) that differs by size or time, or
    with `checksum` by contents.

    `make_room` is called where one does not fit; what still does not fit is left to rsync,
    which sees to the other files that have to shrink first.
    """
    total = Transfer()
    here, there = os.fsencode(source), os.fsencode(destination)
    copied = []
    for names in groups:
        stale = checksum and not same_data(source, destination, names[0])
        done = _copy_if_it_fits(here, there, names, stale)
        if done is None:
            total += make_room()
            done = _copy_if_it_fits(here, there, names, stale)
        if done and done.files:
            copied.append(names[0])
            total += done
    if copied:
        set_times(source, destination, copied)
    return total


def set_times(source: Path, destination: Path, names: list[bytes]) -> None:
    """Give `names` the source's times.  These say that copies are whole: so they come once the data
    is on the disk."""
    flush(destination)
    for name in names:
        facts = os.stat(os.path.join(os.fsencode(source), name), follow_symlinks=False)
        times = (facts.st_atime_ns, facts.st_mtime_ns)
        os.utime(os.path.join(os.fsencode(destination), name), ns=times, follow_symlinks=False)


def _copy_if_it_fits(
    source: bytes, destination: bytes, names: list[bytes], stale: bool
) -> Transfer | None:
    """What was copied; an empty `Transfer` where nothing had to be, None where it does not fit."""
    try:
        return _copy(source, destination, names, stale)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    with contextlib.suppress(OSError):  # where not even its folder could be made
        _remove(os.path.join(destination, names[0]))
    return None


def same_data(source: Path, destination: Path, name: bytes) -> bool:
    """Whether both files called `name` hold the same bytes; holes are read on neither side."""
    try:
        with (
            open(os.path.join(os.fsencode(source), name), "rb", 0, opener=_regular) as here,
            open(os.path.join(os.fsencode(destination), name), "rb", 0, opener=_regular) as there,
        ):
            size = os.fstat(here.fileno()).st_size
            extents = [*_data(here.fileno(), size), *_data(there.fileno(), size)]
            return size == os.fstat(there.fileno()).st_size and all(
                os.pread(here.fileno(), _PIECE, at) == os.pread(there.fileno(), _PIECE, at)
                for start, end in extents
                for at in range(start, end, _PIECE)
            )
    except OSError:
        return False


def _regular(path: str, flags: int) -> int:
    """Open a regular file, and nothing else: opening a FIFO would wait for a partner."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def _copy(source: bytes, destination: bytes, names: list[bytes], stale: bool) -> Transfer:
    """Copy a file that differs or is known to be `stale`.  Nothing in the destination is touched
    before `_make_way` has seen to it that no symbolic link leads out of it."""
    first, *links = names
    there = os.path.join(destination, first)
    facts = os.stat(os.path.join(source, first), follow_symlinks=False)
    if not stale and _is_same(there, facts):
        return Transfer()
    for name in names:
        _make_way(destination, name)
        _remove(os.path.join(destination, name))
    copied = _copy_data(os.path.join(source, first), there, facts.st_size)
    for name in links:
        os.link(there, os.path.join(destination, name))
    return Transfer(1, copied)


def _is_same(path: bytes, facts: os.stat_result) -> bool:
    with contextlib.suppress(OSError):
        present = os.stat(path, follow_symlinks=False)
        return stat.S_ISREG(present.st_mode) and (present.st_size, present.st_mtime_ns) == (
            facts.st_size,
            facts.st_mtime_ns,
        )
    return False


def _make_way(root: bytes, name: bytes) -> None:
    """Make the directories above `name`, in place of whatever else is called so by now.  Nothing
    is reached through a symbolic link: it might lead anywhere."""
    folder = root
    for part in name.split(b"/")[:-1]:
        folder = os.path.join(folder, part)
        if not _is_folder(folder):
            _remove(folder)
            os.mkdir(folder, 0o700)


def _remove(path: bytes) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
        return
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _is_folder(path: bytes) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(path).st_mode)
    except FileNotFoundError:
        return False


def _copy_data(source: bytes, destination: bytes, size: int) -> int:
    """Copy the data between the holes.  The file's time is not the source's yet."""
    copied = 0
    with open(source, "rb", 0, opener=_regular) as read, open(destination, "xb", 0) as write:
        write.truncate(size)
        for start, end in _data(read.fileno(), size):
            for at in range(start, end, _PIECE):
                pace.wait(min(_PIECE, end - at))
                data = os.pread(read.fileno(), min(_PIECE, end - at), at)
                if (start, end) == (0, size):  # a filesystem that tells of no holes
                    copied += _write_dense(write.fileno(), data, at)
                    continue
                _write(write.fileno(), data, at)
                copied += len(data)
    return copied


def _write_dense(descriptor: int, data: bytes, at: int) -> int:
    """Write what is not zero, to a block; returns how much that was."""
    written = 0
    for offset in range(0, len(data), _BLOCK):
        block = data[offset : offset + _BLOCK]
        if any(block):
            _write(descriptor, block, at + offset)
            written += len(block)
    return written


def _data(descriptor: int, size: int) -> Iterator[tuple[int, int]]:
    """The extents of data of an open file."""
    end = 0
    while end < size:
        try:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        end = os.lseek(descriptor, start, os.SEEK_HOLE)
        yield start, end


def _write(descriptor: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(descriptor, view, at)
        view, at = view[count:], at + count
