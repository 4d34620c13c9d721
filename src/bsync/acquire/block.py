# SPDX-License-Identifier: GPL-2.0-only
"""The device behind a locator: opened once, exclusively, and known for what it is.

Everything else reaches the device through this one descriptor, or through loop devices over
parts of it; the kernel's partition nodes are never used, so no name is ever guessed and no
node can disappear under us.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Protocol

from bsync import ioctls
from bsync.acquire import hints, locks
from bsync.acquire.backing import BackingExtent, backing_of, loops_on
from bsync.acquire.holders import rows_above, user_of
from bsync.acquire.identity import other_paths_held
from bsync.acquire.nbd import Shortcut
from bsync.deferred import deferred
from bsync.errors import CopyFailed, InUse, Refused, Unavailable, Usage, limit_hint
from bsync.locate import DevicePath, LoopFile
from bsync.units import both_sizes

_FULL = 1 << 20  # bytes: a filesystem with less is full, for an image that is to grow
_FILE_SECTOR = 512  # bytes; what a loop device over a file has
_TABLE = 34 * 512  # bytes at the beginning in which a new table shows
_UDEV = 5.0  # seconds that udev may take to look at a device


class Guard(Protocol):
    """Whoever looks after what a device stands on while it is used."""

    def check(self) -> None:
        """Raise `CopyFailed` if what was read or written cannot be relied on."""

    def commit(self) -> None:
        """What was written is to stay."""


class Nobody:
    """The guard of a device that looks after itself."""

    def check(self) -> None:
        """Nothing can be wrong that reading and writing does not say."""

    def commit(self) -> None:
        """It stays by itself."""


@dataclass(frozen=True)
class Device:
    """An open device or image file.  Sizes in bytes."""

    word: str
    path: str  # for the tools that want one
    descriptor: int
    size: int
    sector_size: int
    description: str
    backing: BackingExtent
    unnamed: str = ""  # the name that a file made for this run is still to get
    guard: Guard = field(default_factory=Nobody)
    disposable: bool = False  # a copy: it may be repaired, and goes with a run that fails
    whole_pages: bool = False  # nothing else may be written past the page cache
    shortcut: Shortcut | None = None  # to what it stands on, for many requests at once
    witness: int = -1  # a second descriptor: errors of writing back that nobody else is told of

    def read(self, offset: int, size: int) -> bytes:
        """`size` bytes at `offset`, fewer only at the end.  Raises `Unavailable`."""
        try:
            return b"".join(_pieces(self.descriptor, offset, size))
        except OSError as error:
            raise Unavailable(f"{self.word} cannot be read: {error.strerror}") from None

    def data_from(self, offset: int) -> int:
        """Where the first byte at `offset` or after it is that may not be a hole's."""
        try:
            return os.lseek(self.descriptor, offset, os.SEEK_DATA)
        except OSError as error:
            return self.size if error.errno == errno.ENXIO else offset

    def write(self, offset: int, data: bytes) -> None:
        """Write all of `data` at `offset`.  Raises `CopyFailed`."""
        view = memoryview(data)
        try:
            while view:
                count = os.pwrite(self.descriptor, view, offset)
                view, offset = view[count:], offset + count
        except OSError as error:
            raise CopyFailed(
                f"{self.word} cannot be written: {error.strerror}", limit_hint(error)
            ) from None

    def flush(self) -> None:
        """All that was written is on the disk, and whoever reads sees it, by whatever way it came
        and is read; or `CopyFailed`."""
        try:
            os.fsync(self.descriptor if self.witness < 0 else self.witness)
            if self.shortcut:
                self.shortcut.forget(self.descriptor)
        except OSError as error:
            raise CopyFailed(f"{self.word} cannot be flushed: {error.strerror}") from None

    @property
    def room(self) -> int | None:
        """Bytes of its filesystem that an image file has, or may still get; None for a device."""
        facts = os.fstat(self.descriptor)
        return self._free() + facts.st_blocks * 512 if stat.S_ISREG(facts.st_mode) else None

    @property
    def reserved(self) -> bool:
        """Whether it is an image file without holes: somebody has kept all of its room for it."""
        facts = os.fstat(self.descriptor)
        return stat.S_ISREG(facts.st_mode) and facts.st_blocks * 512 >= facts.st_size

    def check_room(self) -> None:
        """Raise `CopyFailed` if an image file cannot get any room: whoever wrote to it through a
        loop device was only told of an error."""
        if self.room is not None and not self.reserved and self._free() < _FULL:
            free = both_sizes(self.room, self.size)
            raise CopyFailed(
                f"the filesystem that holds {self.word} is full: the image takes {free[0]} of "
                f"{free[1]}",
                "make room there, and run again",
            )

    def _free(self) -> int:
        free = os.fstatvfs(self.descriptor)
        return free.f_bavail * free.f_frsize

    def publish(self) -> None:
        """Give a file made for this run its name, now that it is to be written."""
        if not self.unnamed:
            return
        try:
            folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY)
            try:  # a folder given makes Python call linkat(2), which follows the link
                os.link(str(self.descriptor), self.unnamed, src_dir_fd=folder)
            finally:
                os.close(folder)
        except OSError as error:
            raise Unavailable(f"{self.unnamed}: {error.strerror}") from None


def _pieces(descriptor: int, offset: int, size: int) -> Iterator[bytes]:
    while size > 0 and (piece := os.pread(descriptor, size, offset)):
        yield piece
        offset, size = offset + len(piece), size - len(piece)


@contextlib.contextmanager
def opened(
    locator: DevicePath | LoopFile,
    *,
    writable: bool,
    wanted: bool = False,
    create: int = 0,
    apart_from: Device | None = None,
    shared: bool = False,
) -> Iterator[Device]:
    """The device or file at a path, held for us alone until the end of the block.

    `wanted`: it is not to be written, but whatever would keep us from writing it keeps us from
    opening it.  `create`: bytes of an image file to be made.  `apart_from`: the source, which the
    destination must not overlap.  `shared`: it is looked at also while it is in use.
    Raises `Unavailable`, `Refused`.
    """
    word, path = str(locator), locator.path
    access = _Access(writable, wanted or writable, shared)
    with contextlib.ExitStack() as held:
        if create:
            device = _created(word, path, create, held)
        else:
            device = _existing(word, path, access, apart_from, held)
        if writable:
            device = held.enter_context(_witnessed(device))
        table = _table(device)
        try:
            yield device
        finally:
            changed = writable and not create and _table(device) != table
            held.close()
            if changed:
                _renew_nodes(device.path)


@contextlib.contextmanager
def _witnessed(device: Device) -> Iterator[Device]:
    """The device with a descriptor that is open all along, and that nobody else asks.

    The kernel tells every open file once of an error of writing back (errseq_t).  Loop devices
    share the other descriptor: whoever flushes one of them, and does not mind, would take it.
    """
    witness = os.open(f"/proc/self/fd/{device.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield replace(device, witness=witness)
    finally:
        with contextlib.suppress(OSError):
            os.close(witness)


@dataclass(frozen=True)
class _Access:
    """What is to be done with a device; `wanted`: at some later time written, if not now."""

    writable: bool
    wanted: bool
    shared: bool = False  # others may use it meanwhile


def _table(device: Device) -> bytes:
    """The beginning of the device, where tables are; nothing of one that died."""
    with contextlib.suppress(Unavailable):
        return device.read(0, _TABLE)
    return b""


def _renew_nodes(path: str) -> None:
    """Have the kernel read a new table; it may while nobody has a partition open, as udev has
    for a moment.  Where it scans none, there is nothing to renew."""
    deadline = time.monotonic() + _UDEV
    with contextlib.suppress(OSError), _descriptor_of(path) as descriptor:
        while time.monotonic() < deadline:
            try:
                fcntl.ioctl(descriptor, ioctls.BLKRRPART)
                return
            except OSError as error:
                if error.errno != errno.EBUSY:
                    return
            time.sleep(0.05)


@contextlib.contextmanager
def _descriptor_of(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _created(word: str, path: str, size: int, held: contextlib.ExitStack) -> Device:
    """A sparse file without a name yet: it vanishes with us unless it is published."""
    if os.path.lexists(path):
        raise Usage(f"{path} exists already", "leave out --create, or name another file")
    folder = os.path.dirname(path) or "."
    try:
        descriptor = _kept(held, folder, os.O_TMPFILE | os.O_RDWR)
        os.ftruncate(descriptor, size)
    except OSError as error:
        raise Unavailable(
            f"cannot create {path}: {error.strerror}", hints.to_create(error, path, size)
        ) from None
    locks.hold(descriptor, path, writable=True, wanted=True)
    backing = backing_of(os.fstat(descriptor))
    name = f"/proc/{os.getpid()}/fd/{descriptor}"
    return Device(word, name, descriptor, size, _FILE_SECTOR, "new image file", backing, path)


def _existing(
    word: str,
    path: str,
    access: _Access,
    apart_from: Device | None,
    held: contextlib.ExitStack,
) -> Device:
    try:
        real = os.path.realpath(path, strict=True)
        facts = os.stat(real)
    except OSError as error:
        hint = hints.privilege(error) or (hints.to_make(path) if access.wanted else "")
        raise Unavailable(f"{path}: {error.strerror}", hint) from None
    refuse_overlap(apart_from, word, backing_of(facts))
    if stat.S_ISBLK(facts.st_mode):
        return _block(word, real, access, held)
    if stat.S_ISREG(facts.st_mode):
        return _file(word, real, access, held)
    raise Refused(f"{path} is neither a block device nor a file")


def _file(word: str, path: str, access: _Access, held: contextlib.ExitStack) -> Device:
    if access.wanted:
        _refuse_unwritable(path)
    descriptor = _open(held, path, os.O_RDWR if access.writable else os.O_RDONLY)
    facts = os.fstat(descriptor)
    if facts.st_size == 0:
        raise Refused(f"{path} is empty", "give it a size first: truncate -s SIZE FILE")
    locks.hold(descriptor, path, writable=access.writable, wanted=access.wanted)
    backing = backing_of(facts)
    if not access.shared:
        _refuse_loops(path, backing, access.wanted)
    return Device(word, path, descriptor, facts.st_size, _FILE_SECTOR, "image file", backing)


def _refuse_unwritable(path: str) -> None:
    """See whether a file could be written; changes nothing, not even its times."""
    with contextlib.ExitStack() as held:
        descriptor = _open(held, path, os.O_RDWR)
        try:
            os.pwrite(descriptor, b"", 0)
        except OSError as error:
            if error.errno == errno.ETXTBSY:
                raise InUse(f"{path} is in use as swap space", f"swapoff {path}") from None
            raise Unavailable(f"{path} cannot be written: {error.strerror}") from None


def _block(word: str, path: str, access: _Access, held: contextlib.ExitStack) -> Device:
    if access.shared:
        return _block_in_use(word, path, held)
    descriptor = _open(held, path, (os.O_RDWR if access.writable else os.O_RDONLY) | os.O_EXCL)
    facts = os.fstat(descriptor)
    held.enter_context(other_paths_held(word, facts.st_rdev))
    if access.wanted and _ioctl_int(descriptor, ioctls.BLKROGET):
        raise Refused(f"{path} is read-only", "see: blockdev --getro")
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size == 0:
        raise Refused(f"{path} has no medium (size 0)")
    locks.hold(descriptor, path, writable=access.writable, wanted=access.wanted, patience=_UDEV)
    backing = backing_of(facts)
    _refuse_loops(path, backing, access.wanted)
    sector = _ioctl_int(descriptor, ioctls.BLKSSZGET)
    return Device(word, path, descriptor, size, sector, _identity(path), backing)


def _block_in_use(word: str, path: str, held: contextlib.ExitStack) -> Device:
    """A device to be looked at, with a word on who uses it, if anybody does."""
    descriptor = _open(held, path, os.O_RDONLY)
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size == 0:
        raise Refused(f"{path} has no medium (size 0)")
    what = _identity(path)
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
    except OSError as error:
        what += f"; {user_of(path)[0]}" if error.errno == errno.EBUSY else ""
    sector, backing = _ioctl_int(descriptor, ioctls.BLKSSZGET), backing_of(os.fstat(descriptor))
    return Device(word, path, descriptor, size, sector, what, backing)


def _open(held: contextlib.ExitStack, path: str, flags: int) -> int:
    try:
        return _kept(held, path, flags)
    except OSError as error:
        if error.errno == errno.EBUSY:
            what, hint = user_of(path)
            raise InUse(f"{path} is in use: {what}", hint) from None
        if error.errno == errno.EROFS:
            raise Refused(f"{path} is read-only", "it can only be a source") from None
        raise Unavailable(f"{path}: {error.strerror}", hints.privilege(error)) from None


def _kept(held: contextlib.ExitStack, path: str, flags: int) -> int:
    """An open descriptor that `held` closes: nothing that happens later can leave it open, and
    with it a loop device that cannot be detached."""
    with deferred():
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o600)
        held.callback(_closed, descriptor)
    return descriptor


def _closed(descriptor: int) -> None:
    with contextlib.suppress(OSError):  # what is dead says so once more
        os.close(descriptor)


def _refuse_loops(path: str, backing: BackingExtent, writable: bool) -> None:
    """Nobody else's loop device may write what we read, or see what we write."""
    for device, loop in loops_on(backing, but=path):
        if writable or not loop.read_only:
            raise InUse(f"{path} is attached as {device}", f"detach it: losetup -d {device}")


def _ioctl_int(descriptor: int, request: int) -> int:
    return int(struct.unpack("i", fcntl.ioctl(descriptor, request, bytes(4)))[0])


def _identity(path: str) -> str:
    rows = [row for row in rows_above(path, "PATH,TYPE,MODEL,SERIAL") if row.get("path") == path]
    facts = rows[0] if rows else {}
    serial = f"serial {facts['serial']}" if facts.get("serial") else ""
    words = [str(facts.get("model") or "").strip(), serial]
    return ", ".join(filter(None, words)) or f"{facts.get('type') or 'block device'}"


def refuse_overlap(source: Device | None, word: str, backing: BackingExtent) -> None:
    """A disk is never cloned onto itself, by whatever names.  Raises `Refused`."""
    if source is not None and source.backing.overlaps(backing):
        raise Refused(
            f"{source.word} and {word} are the same storage, or overlap ({backing.storage})",
            "source and destination must be different disks",
        )
