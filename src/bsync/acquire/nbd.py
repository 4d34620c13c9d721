# SPDX-License-Identifier: GPL-2.0-only
"""NBD, by libnbd: what a storage daemon exports over FUSE, past FUSE and the loop device on it.

A FUSE export takes one write at a time, so that a copy waits for every one of them to be
answered; an NBD server takes as many as come.  The daemon has one beside the export where
libnbd is installed; without it all goes through FUSE.

The storage is the same behind both, but the kernel keeps what it read by FUSE (see
`Shortcut.forget`), and the daemon flushes only what was written by the way that is flushed.
Protocol: the NBD project's proto.md; functions: libnbd(3).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import queue
import socket
from collections.abc import Iterator
from ctypes import c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from bsync.ioctls import BLKFLSBUF

NAME = "bsync"  # of the export
_LIBRARY = "libnbd.so.0"
_MOST = 16 << 20  # bytes of one request; servers take 32 MiB
_SEND_BUFFER = 8 << 20  # bytes; the usual 208 KiB make for twice as many turns
_SET_SEND_BUFFER = 32  # SO_SNDBUFFORCE of socket(7), which Python does not name
_WAITING = 64  # connections that may wait to be accepted

# name: result, arguments after the handle
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "nbd_set_export_name": (c_int, (c_char_p,)),
    "nbd_connect_socket": (c_int, (c_int,)),
    "nbd_pread": (c_int, (c_void_p, c_size_t, c_uint64, c_uint32)),
    "nbd_pwrite": (c_int, (c_void_p, c_size_t, c_uint64, c_uint32)),
    "nbd_flush": (c_int, (c_uint32,)),
    "nbd_close": (None, ()),
}


@cache
def library() -> ctypes.CDLL | None:
    """libnbd, where it is installed."""
    try:
        found = ctypes.CDLL(_LIBRARY)
    except OSError:
        return None
    found.nbd_create.restype, found.nbd_create.argtypes = c_void_p, ()
    found.nbd_get_errno.restype, found.nbd_get_errno.argtypes = c_int, ()
    for name, (result, after) in _FUNCTIONS.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, (c_void_p, *after)
    return found


class Meeting:
    """A socket where a server listens that inherits it; it has no name, so that nobody else can
    connect to it."""

    def __init__(self, path: str) -> None:
        """It stands at `path` for a moment.  Raises `OSError`."""
        self.listening = socket.socket(socket.AF_UNIX)
        folder, name = os.path.split(path)
        directory = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            short = f"/proc/self/fd/{directory}/{name}"  # 107 bytes are the most for a socket
            self.listening.bind(short)
            self._descriptor = os.open(short, os.O_PATH | os.O_CLOEXEC)
            os.unlink(short)
        finally:
            os.close(directory)
        self.listening.listen(_WAITING)

    def connected(self) -> socket.socket:
        """A connection with the server.  Raises `OSError`."""
        found = socket.socket(socket.AF_UNIX)
        try:
            found.connect(f"/proc/self/fd/{self._descriptor}")
            with contextlib.suppress(OSError):
                found.setsockopt(socket.SOL_SOCKET, _SET_SEND_BUFFER, _SEND_BUFFER)
        except OSError:
            found.close()
            raise
        return found

    def close(self) -> None:
        self.listening.close()
        os.close(self._descriptor)


class _Connection:
    """One client of a server; used by one thread at a time."""

    def __init__(self, nbd: ctypes.CDLL, meeting: Meeting) -> None:
        self._nbd = nbd
        self._handle = nbd.nbd_create()
        try:
            self._call("nbd_set_export_name", NAME.encode())
            self._call("nbd_connect_socket", meeting.connected().detach())
        except OSError:
            self.close()
            raise

    def read(self, memory: int, size: int, at: int) -> None:
        self._call("nbd_pread", memory, size, at, 0)

    def write(self, memory: int, size: int, at: int) -> None:
        self._call("nbd_pwrite", memory, size, at, 0)

    def flush(self) -> None:
        self._call("nbd_flush", 0)

    def close(self) -> None:
        self._nbd.nbd_close(self._handle)

    def _call(self, name: str, *arguments: object) -> None:
        """Call a function of libnbd's.  Raises `OSError`."""
        if getattr(self._nbd, name)(self._handle, *arguments) != 0:
            number = int(self._nbd.nbd_get_errno()) or errno.EIO
            raise OSError(number, os.strerror(number))


class Channel:
    """Reading and writing through as many connections as there are threads that want one."""

    def __init__(self, meeting: Meeting) -> None:
        self._meeting = meeting
        self._idle: queue.LifoQueue[_Connection] = queue.LifoQueue()

    def preadv(self, views: list[memoryview], at: int) -> int:
        """As os.preadv(3), and as there it may be less than everything.  Raises `OSError`."""
        size = min(_MOST, sum(map(len, views)))
        alone = len(views) == 1  # else one request costs less than many
        room = np.frombuffer(views[0], np.uint8) if alone else np.empty(size, np.uint8)
        with self._connection() as connection:
            connection.read(room.ctypes.data, size, at)
        if not alone:
            _scatter(room, views)
        return size

    def pwritev(self, views: list[memoryview], at: int) -> int:
        """As os.pwritev(3), and as there it may be less than everything.  Raises `OSError`."""
        data = np.frombuffer(views[0], np.uint8)[:_MOST]
        with self._connection() as connection:
            connection.write(data.ctypes.data, len(data), at)
        return len(data)

    def flush(self) -> None:
        """All that was written is on the disk.  Raises `OSError`."""
        with self._connection() as connection:
            connection.flush()

    @contextlib.contextmanager
    def _connection(self) -> Iterator[_Connection]:
        """One that nobody else uses; one that failed is not used again."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            nbd = library()
            assert nbd is not None  # else there were no channel
            connection = _Connection(nbd, self._meeting)
        try:
            yield connection
        except BaseException:
            connection.close()
            raise
        self._idle.put(connection)

    def close(self) -> None:
        """Nobody uses it any more."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._idle.get_nowait().close()


def _scatter(data: np.ndarray[Any, np.dtype[np.uint8]], views: list[memoryview]) -> None:
    at = 0
    for view in views:
        part = data[at : at + len(view)]
        view[: len(part)] = part.data
        at += len(part)


@dataclass(frozen=True)
class Shortcut:
    """The way to a daemon's storage past its export over FUSE."""

    meeting: Meeting
    path: str  # of the export

    @contextlib.contextmanager
    def channel(self) -> Iterator[Channel]:
        """Reading and writing until the end of the block."""
        channel = Channel(self.meeting)
        try:
            yield channel
        finally:
            channel.close()

    def forget(self, loop: int) -> None:
        """Have the kernel forget what it read by the loop device over the export and by FUSE, so
        that it sees what came by the shortcut.  Nothing may be unwritten.  Raises `OSError`.

        `loop`: a descriptor of that loop device.
        """
        fcntl.ioctl(loop, BLKFLSBUF)
        os.close(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC))  # FUSE forgets on opening
