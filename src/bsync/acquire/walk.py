# SPDX-License-Identifier: GPL-2.0-only
"""What a mounted tree tells of its files, where no inode tables can be read in bulk.

Interface: linux/fs.h, FS_IOC_GETFLAGS and FS_IOC_FSGETXATTR.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from bsync.errors import CopyFailed
from bsync.filesystems.ext.inodes import SETTABLE, SpecialInodes
from bsync.ioctls import FS_IOC_FSGETXATTR, FS_IOC_GETFLAGS

_XATTR = struct.Struct("=IIIII8x")  # xflags, extsize, nextents, projid, cowextsize
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOATIME | os.O_CLOEXEC
# Setting it (chattr +t) makes Linux from 5.13 on lock the file's inode twice on ReiserFS, and
# wait for ever.  It says how the last bytes of a file are packed, and nothing of the file.
_NOTAIL = 0x8000
_UNIT = 512  # bytes of what st_blocks counts
_SLACK = 4096  # bytes of a hole that is worth one


def walk(root: Path, since: int) -> SpecialInodes:
    """Look at every file below `root`, itself included; a change from `since` on, in seconds since
    1970, is late.  Raises `CopyFailed`."""
    flags: dict[int, int] = {}
    projects: dict[int, int] = {}
    sparse: set[int] = set()
    linked: set[int] = set()
    late: set[int] = set()
    listed: set[int] = set()
    try:
        for path, facts in _files(os.fsencode(root)):
            number, mode = facts.st_ino, facts.st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                flags[number], projects[number] = _attributes(path)
            if stat.S_ISREG(mode) and facts.st_size - facts.st_blocks * _UNIT >= _SLACK:
                sparse.add(number)
            if stat.S_ISREG(mode) and facts.st_ctime >= since:
                late.add(number)
            if not stat.S_ISLNK(mode) and _has_acl(path):
                listed.add(number)
            device = stat.S_ISCHR(mode) or stat.S_ISBLK(mode)
            if device or (facts.st_nlink > 1 and not stat.S_ISDIR(mode)):
                linked.add(number)
    except OSError as error:
        raise CopyFailed(f"a file cannot be looked at: {error.strerror}") from None
    rest = (frozenset(found) for found in (sparse, linked, late, listed))
    return SpecialInodes(_set(flags), _set(projects), *rest)


def _files(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    yield root, os.lstat(root)
    pending = [root]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                yield entry.path, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)


def _has_acl(path: bytes) -> bool:
    return "system.posix_acl_access" in os.listxattr(path, follow_symlinks=False)


def _attributes(path: bytes) -> tuple[int, int]:
    """What chattr(1) has set and can set, and the project ID; 0 where a filesystem has none."""
    descriptor = os.open(path, _OPEN)
    try:
        flags = struct.unpack("=I", _asked(descriptor, FS_IOC_GETFLAGS, 4))[0]
        project = _XATTR.unpack(_asked(descriptor, FS_IOC_FSGETXATTR, _XATTR.size))[3]
    finally:
        os.close(descriptor)
    return int(flags) & SETTABLE & ~_NOTAIL, int(project)


def _asked(descriptor: int, request: int, size: int) -> bytes:
    """What the filesystem answers; zeroes, if it does not know the question."""
    try:
        answer: bytes = fcntl.ioctl(descriptor, request, bytes(size))
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EOPNOTSUPP):
            return bytes(size)
        raise
    return answer


def _set(found: dict[int, int]) -> dict[int, int]:
    return {inode: value for inode, value in found.items() if value}
