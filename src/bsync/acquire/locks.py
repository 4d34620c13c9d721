# SPDX-License-Identifier: GPL-2.0-only
"""Locks on a device or image file: against other runs, udev and virtual machines.

Runs and udev lock with flock(2).  QEMU holds shared locks on single bytes by its open file
description (fcntl(2), F_OFD_SETLK): on byte 100 + n while it makes use of permission n, on
200 + n while it lets nobody else have that permission.  Whoever opens an image looks for locks
on the bytes that exclude its own.  Source: the semantics described in QEMU's
block/file-posix.c, and `BlockPermission` in its QMP reference.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time

from bsync.errors import InUse, Unavailable

_LOCK = struct.Struct("hhqqi0q")  # struct flock of fcntl(2)
_USED, _EXCLUDED = 100, 200
_READ, _WRITE, _UNCHANGED, _RESIZE = range(4)
_ALL = (_READ, _WRITE, _UNCHANGED, _RESIZE)
_WRITING = (_WRITE, _RESIZE)  # who reads can bear writes that change nothing


def hold(descriptor: int, path: str, *, writable: bool, wanted: bool, patience: float = 0) -> None:
    """Lock an open device for as long as it is open, for writing or for reading.

    `wanted`: whoever stands in the way of writing does so now, too.  udev holds its lock for a
    moment, whenever anybody has written to a device: `patience` is how many seconds to wait for
    whoever holds one.  Raises `InUse`, and `Unavailable` where there are no locks.
    """
    try:
        _hold_whole(descriptor, path, writable, wanted, patience)
    except OSError as error:
        raise Unavailable(
            f"{path} cannot be locked: {error.strerror}",
            "the filesystem that holds it must have locks; NFS: mount it with local_lock=flock",
        ) from None
    try:
        _keep_machines_off(descriptor, writable)
        free = _free_of_machines(descriptor, wanted)
    except OSError as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            return  # a filesystem that has no such locks
        free = False
    if not free:
        raise InUse(f"{path} is locked by another program", "does a virtual machine use it?")


def _hold_whole(descriptor: int, path: str, writable: bool, wanted: bool, patience: float) -> None:
    """Take the lock that runs and udev respect."""
    deadline = time.monotonic() + patience
    while not _flocked(descriptor, fcntl.LOCK_EX if wanted else fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            raise InUse(f"{path} is locked by another program", "is another bsync at work?")
        time.sleep(0.05)
    if wanted and not writable:
        _flocked(descriptor, fcntl.LOCK_SH)


def _flocked(descriptor: int, how: int) -> bool:
    """Whether the lock is ours now.  Raises `OSError` where there are no such locks."""
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:  # NFS wants what is locked for one alone to be open for writing
        if error.errno != errno.EBADF or how != fcntl.LOCK_EX:
            raise
        return _flocked(descriptor, fcntl.LOCK_SH)
    return True


def _keep_machines_off(descriptor: int, writable: bool) -> None:
    """No machine starts to write what we read, or to use what we write at all."""
    used = _ALL if writable else (_READ,)
    excluded = _ALL if writable else _WRITING
    for at in (*(_USED + n for n in used), *(_EXCLUDED + n for n in excluded)):
        lock = _LOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, at, 1, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)


def _free_of_machines(descriptor: int, wanted: bool) -> bool:
    """Whether nobody else has a lock that excludes ours; our own do not count."""
    if wanted:
        return _nobody_locks(descriptor, 0, 0, fcntl.F_WRLCK)
    bytes_ = (*(_USED + n for n in _WRITING), _EXCLUDED + _READ)
    return _nobody_locks(descriptor, 0, 0, fcntl.F_RDLCK) and all(
        _nobody_locks(descriptor, at, 1, fcntl.F_WRLCK) for at in bytes_
    )


def _nobody_locks(descriptor: int, at: int, size: int, kind: int) -> bool:
    """Whether a lock of this kind could be had; a size of 0 is to the end."""
    question = _LOCK.pack(kind, os.SEEK_SET, at, size, 0)
    answer = _LOCK.unpack(fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, question))
    return bool(answer[0] == fcntl.F_UNLCK)
