# SPDX-License-Identifier: GPL-2.0-only
"""Disks that runs of this machine reach in user space, kept from each other and from those that
reach them by the kernel: targets let any number of initiators write.

A disk is one byte of the file that all runs share, its place made from the disk's identity; a lock
on it (fcntl(2), F_OFD_SETLK) goes with the descriptor, and leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator

from bsync.acquire.backing import BackingExtent
from bsync.errors import InUse, Refused
from bsync.ledger import LOCK, Ledger, folder

_LOCK = struct.Struct("hhqqi0q")  # struct flock of fcntl(2)
_ours: list[str] = []  # the storages that this run has


@contextlib.contextmanager
def reserved(ledger: Ledger, word: str, backing: BackingExtent, writable: bool) -> Iterator[None]:
    """Keep the disk from other runs, and from being both sides of ours, until the end of the block.

    Raises `Refused`, `InUse`.
    """
    descriptor = os.open(ledger.directory.parent / LOCK, os.O_RDWR | os.O_CLOEXEC)
    try:
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock(backing, writable))
        except OSError:
            raise _in_use(word, backing) from None
        with _noted(backing):
            yield
    finally:
        os.close(descriptor)


def refuse_reserved(word: str, backing: BackingExtent, writable: bool) -> None:
    """Raise `Refused` where a disk that the kernel knows is reached in user space by a run: one
    that began before the kernel knew it, or it would hold the kernel's device."""
    with contextlib.suppress(FileNotFoundError), open(folder() / LOCK, "rb") as file:
        found = fcntl.fcntl(file, fcntl.F_OFD_GETLK, _lock(backing, writable))
        if _LOCK.unpack(found)[0] != fcntl.F_UNLCK:
            raise _in_use(word, backing)


@contextlib.contextmanager
def _noted(backing: BackingExtent) -> Iterator[None]:
    _ours.append(backing.storage)
    try:
        yield
    finally:
        _ours.remove(backing.storage)


def _lock(backing: BackingExtent, writable: bool) -> bytes:
    place = int.from_bytes(hashlib.sha256(backing.storage.encode()).digest()[:7], "big")
    kind = fcntl.F_WRLCK if writable else fcntl.F_RDLCK
    return _LOCK.pack(kind, os.SEEK_SET, place, 1, 0)


def _in_use(word: str, backing: BackingExtent) -> Refused:
    if backing.storage in _ours:
        hint = "source and destination must be different disks"
        return Refused(f"{word} is the source, too", hint)
    return InUse(f"{word} is in use by another bsync", "--wait waits for it")
