# SPDX-License-Identifier: GPL-2.0-only
"""File flags (chattr) and project IDs: what rsync(1) neither sees nor keeps.

Flags stand in the way of a synchronisation (an immutable file cannot be changed, its
directory's entries neither) and are inherited by new files, so all flags of the destination
are cleared before the copy and set from the source's after it.
Interface: linux/fs.h, FS_IOC_GETFLAGS, FS_IOC_FSGETXATTR and their counterparts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from bsync.errors import CopyFailed
from bsync.filesystems.ext.inodes import SETTABLE, SpecialInodes
from bsync.ioctls import (
    FS_IOC_FSGETXATTR,
    FS_IOC_FSSETXATTR,
    FS_IOC_GETFLAGS,
    FS_IOC_SETFLAGS,
)

_XATTR = struct.Struct("=IIIII8x")  # xflags, extsize, nextents, projid, cowextsize
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_OPEN = os.O_RDONLY | os.O_NONBLOCK | os.O_NOATIME

Attributes = tuple[int, int]  # flags, project ID
Paths = dict[int, list[bytes]]


def find(root: Path, inodes: frozenset[int]) -> Paths:
    """Every path, relative to `root`, of each of `inodes`; no file is even looked at."""
    found: Paths = {}
    if not inodes:
        return found
    if (number := os.stat(root).st_ino) in inodes:
        found[number] = [b"."]
    pending = [b""]
    base = os.fsencode(root)
    while pending:
        folder = pending.pop()
        with os.scandir(os.path.join(base, folder)) as entries:
            for entry in entries:
                path = os.path.join(folder, entry.name)
                if entry.inode() in inodes:
                    found.setdefault(entry.inode(), []).append(path)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
    return found


def by_path(special: SpecialInodes, paths: Paths) -> dict[bytes, Attributes]:
    """Flags and project IDs by path, where there are any."""
    wanted = {*special.flags, *special.projects}
    return {
        path: (special.flags.get(inode, 0), special.projects.get(inode, 0))
        for inode in wanted
        for path in paths.get(inode, [])
    }


def clear_flags(root: Path, paths: dict[bytes, Attributes]) -> None:
    """Take all flags away from the files at `paths`.  Raises `CopyFailed`."""
    for path, (flags, _) in paths.items():
        if flags:
            with opened(root, path) as descriptor:
                _set_flags(descriptor, 0)


def apply(root: Path, wanted: dict[bytes, Attributes], before: dict[bytes, Attributes]) -> None:
    """Give every file the attributes `wanted`; a project that it had `before` and should not
    have goes, as its flags went by `clear_flags`.

    Raises `CopyFailed` where the filesystem takes other attributes than it is given.
    """
    for path, (_, project) in before.items():
        if project and path not in wanted:
            with contextlib.suppress(OSError):  # it is gone, or of another kind
                _forget_project(root, path)
    for path, (flags, project) in wanted.items():
        with opened(root, path) as descriptor:
            if project or before.get(path, (0, 0))[1]:
                _set_project(descriptor, project)
            _set_flags(descriptor, flags)


def _forget_project(root: Path, path: bytes) -> None:
    descriptor = _open(root, path)
    try:
        _set_project(descriptor, 0)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def opened(root: Path, path: bytes, how: int = _OPEN) -> Iterator[int]:
    """A descriptor of `path` below `root`, whose attributes are to be set.  Raises `CopyFailed`,
    also for an `OSError` of the block."""
    try:
        descriptor = _open(root, path, how)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
    except OSError as error:
        name = os.fsdecode(path)
        raise CopyFailed(f"{name}: its attributes cannot be set: {error.strerror}") from None


def _open(root: Path, path: bytes, how: int = _OPEN) -> int:
    """Open `path` below `root`, and nothing that a symbolic link on the way leads to: what was
    a directory a moment ago may by now be a link out of the tree."""
    *above, name = path.split(b"/")
    folder = os.open(root, _FOLDER)
    try:
        for part in above:
            outer, folder = folder, os.open(part, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(outer)
        return os.open(name, how | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    finally:
        os.close(folder)


def _set_flags(descriptor: int, flags: int) -> None:
    present = struct.unpack("=I", fcntl.ioctl(descriptor, FS_IOC_GETFLAGS, bytes(4)))[0]
    wanted = present & ~SETTABLE | flags
    if wanted != present:
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("=I", wanted))


def _set_project(descriptor: int, project: int) -> None:
    present = list(_XATTR.unpack(fcntl.ioctl(descriptor, FS_IOC_FSGETXATTR, bytes(_XATTR.size))))
    if present[3] != project:
        present[3] = project
        fcntl.ioctl(descriptor, FS_IOC_FSSETXATTR, _XATTR.pack(*present))
