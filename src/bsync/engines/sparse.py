"""Files with large holes, copied by their data alone.

rsync reads a hole like any other part of a file: a lastlog of some kilobytes takes it as
long as the terabyte that its size says.  Such files are copied here beforehand, with
SEEK_DATA and SEEK_HOLE of lseek(2); rsync then finds their size and time right, and only
sees to their attributes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bsync.engines.rsync import Transfer
from bsync.units import MIB

_PIECE = MIB


def copy_all(source: Path, destination: Path, groups: list[list[bytes]]) -> Transfer:
    """Copy each group of paths (the hard links of one file) that differs by size or time."""
    total = Transfer()
    for names in groups:
        total += _copy(os.fsencode(source), os.fsencode(destination), names)
    return total


def same_data(source: Path, destination: Path, name: bytes) -> bool:
    """Whether both files called `name` hold the same bytes; holes are read on neither side."""
    try:
        with (
            open(os.path.join(os.fsencode(source), name), "rb", 0) as here,
            open(os.path.join(os.fsencode(destination), name), "rb", 0, opener=_nofollow) as there,
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


def _nofollow(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _copy(source: bytes, destination: bytes, names: list[bytes]) -> Transfer:
    first, *links = names
    there = os.path.join(destination, first)
    facts = os.stat(os.path.join(source, first), follow_symlinks=False)
    if _is_same(there, facts) or not all(_parents(destination, name) for name in names):
        return Transfer()
    for name in names:
        _remove(os.path.join(destination, name))
    copied = _copy_data(os.path.join(source, first), there, facts)
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


def _parents(root: bytes, name: bytes) -> bool:
    """Make the directories above `name`; False where something else is in the way, so that
    rsync shall copy the file.  A symbolic link is in the way: it might lead anywhere."""
    folder = root
    for part in name.split(b"/")[:-1]:
        folder = os.path.join(folder, part)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return False
    target = os.path.join(root, name)
    return not (os.path.lexists(target) and stat.S_ISDIR(os.lstat(target).st_mode))


def _remove(path: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _copy_data(source: bytes, destination: bytes, facts: os.stat_result) -> int:
    """Copy the data between the holes.  The time comes after the data is on the disk, since
    it is what says that the copy is whole."""
    copied = 0
    with open(source, "rb", 0) as read, open(destination, "xb", 0) as write:
        write.truncate(facts.st_size)
        for start, end in _data(read.fileno(), facts.st_size):
            for at in range(start, end, _PIECE):
                data = os.pread(read.fileno(), min(_PIECE, end - at), at)
                _write(write.fileno(), data, at)
                copied += len(data)
        os.fsync(write.fileno())
        os.utime(write.fileno(), ns=(facts.st_atime_ns, facts.st_mtime_ns))
    return copied


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
