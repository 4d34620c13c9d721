# SPDX-License-Identifier: GPL-2.0-only
"""What an NBD server of this machine serves, as far as the kernel can tell: the files and devices
that whoever listens there has open.  Sources: proc(5), proc_net(5), proc_pid_fd(5)."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from bsync.acquire.backing import BackingExtent, backing_of
from bsync.errors import Unavailable
from bsync.locate import NbdExport

_PROC = Path("/proc")
_LISTENING = "0A"  # the state of a TCP socket, TCP_LISTEN


def served(server: NbdExport) -> tuple[BackingExtent, ...]:
    """What the server's process has open; nothing where it runs on another machine."""
    sockets = {f"socket:[{inode}]" for inode in _listening(server)}
    found: set[BackingExtent] = set()
    for process in _PROC.glob("[0-9]*") if sockets else ():
        opened = list(_opened(process))
        if sockets & {target for _, target in opened}:
            found.update(_grounds(descriptor for descriptor, _ in opened))
    return tuple(found)


def _listening(server: NbdExport) -> Iterator[str]:
    """The inodes of the sockets of this machine on which the server may listen."""
    if server.socket:
        path = os.path.realpath(server.socket)
        for fields in _rows("unix"):
            if len(fields) > 7 and os.path.realpath(fields[7]) == path:
                yield fields[6]
        return
    for fields in (*_rows("tcp"), *_rows("tcp6")):
        if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == server.port:
            yield fields[9]


def _rows(table: str) -> list[list[str]]:
    """The rows of one of the kernel's tables of sockets, without its heading."""
    with contextlib.suppress(OSError):
        lines = (_PROC / "net" / table).read_text(errors="surrogateescape").splitlines()
        return [line.split(None, 7 if table == "unix" else -1) for line in lines[1:]]
    return []


def _opened(process: Path) -> Iterator[tuple[Path, str]]:
    """The descriptors of a process, and what they lead to; none where it has gone."""
    with contextlib.suppress(OSError):
        for descriptor in (process / "fd").iterdir():
            yield descriptor, os.readlink(descriptor)


def _grounds(descriptors: Iterator[Path]) -> Iterator[BackingExtent]:
    for descriptor in descriptors:
        with contextlib.suppress(OSError, Unavailable):
            facts = descriptor.stat()
            if stat.S_ISREG(facts.st_mode) or stat.S_ISBLK(facts.st_mode):
                yield backing_of(facts)
