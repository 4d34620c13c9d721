# SPDX-License-Identifier: GPL-2.0-only
"""A loop device over a part of an open file or device.

Made by ioctl, since losetup(8) can set neither of the two things that make a loop device
safe to own: *autoclear* (the kernel detaches it when its last user is gone, so after
kill -9 too) and a *reference* of ours in `lo_file_name`, by which `recover` knows it.
Formats: linux/loop.h, `struct loop_config` and `struct loop_info64`.
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
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bsync import ioctls
from bsync.errors import CopyFailed, Unavailable, Unreleased
from bsync.ledger import Facts, Ledger
from bsync.model.layout import Extent
from bsync.run import loaded

_CONTROL = Path("/dev/loop-control")
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16
_INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")
_PATIENCE = 10.0  # seconds for a loop device to go after its last user
_CONTAINER = "a container must be allowed /dev/loop-control and block devices 7:*, by its host"
_ATTEMPTS = 64  # at finding a free loop device that nobody takes before we do


@dataclass(frozen=True)
class LoopStatus:
    """What the kernel says of an attached loop device (`struct loop_info64`)."""

    file_device: int  # st_dev and st_ino of the backing file
    file_inode: int
    block_device: int  # st_rdev where the backing file is a block device, else 0
    extent: Extent  # size 0: to the end
    read_only: bool
    reference: str


@dataclass(frozen=True)
class Over:
    """What a loop device is to stand on: a part of an open file."""

    backing: int  # file descriptor
    extent: Extent
    writable: bool
    block_size: int = 512  # bytes, of the device's blocks
    direct: bool = True  # with direct I/O, so that nothing is cached twice
    longest: int = 0  # KiB of a request; 0: as the kernel likes


class Node:
    """The node of a loop device that /dev lacks, as a container's may; gone with its run."""

    kind: ClassVar[str] = "device-node"

    def __init__(self, path: str, number: int) -> None:
        self.path = path
        self.number = number

    @classmethod
    def from_facts(cls, facts: Facts) -> Node:
        return cls(str(facts["path"]), int(str(facts["number"])))

    def facts(self) -> Facts:
        return {"path": self.path, "number": self.number}

    def acquire(self) -> None:
        """Make it.  Raises `Unavailable`."""
        try:
            os.mknod(self.path, stat.S_IFBLK | 0o600, self.number)
        except OSError as error:
            raise Unavailable(
                f"{self.path} is missing, and cannot be made: {error.strerror}", _CONTAINER
            ) from None

    def release(self) -> None:
        """Remove it, if it is still ours."""
        with contextlib.suppress(FileNotFoundError):
            if os.lstat(self.path).st_rdev == self.number:
                os.unlink(self.path)


class Busy(Unavailable):
    """The loop device was taken between the kernel's offer and our attaching it."""


class Loop:
    """One loop device of ours, known by its reference."""

    kind: ClassVar[str] = "loop"

    def __init__(self, device: str, reference: str, over: Over | None = None) -> None:
        self.device = device
        self.reference = reference
        self._over = over
        self._held = -1

    @classmethod
    def from_facts(cls, facts: Facts) -> Loop:
        return cls(str(facts["device"]), str(facts["reference"]))

    def facts(self) -> Facts:
        return {"device": self.device, "reference": self.reference}

    def acquire(self) -> None:
        """Attach.  Raises `Busy` where somebody else was faster, `Unavailable` otherwise."""
        assert self._over is not None
        flags = _AUTOCLEAR | (_DIRECT_IO if self._over.direct else 0)
        flags |= 0 if self._over.writable else _READ_ONLY
        extent, reference = self._over.extent, self.reference.encode()
        info = _INFO.pack(
            0, 0, 0, extent.start, extent.size, 0, 0, 0, flags, reference, b"", b"", 0, 0
        )
        config = struct.pack("=II", self._over.backing, self._over.block_size) + info + bytes(64)
        try:
            self._held = os.open(self.device, os.O_RDWR if self._over.writable else os.O_RDONLY)
            fcntl.ioctl(self._held, ioctls.LOOP_CONFIGURE, config)
        except OSError as error:
            kind = Busy if error.errno == errno.EBUSY else Unavailable
            raise kind(f"{self.device} cannot be attached: {error.strerror}", _hint()) from None
        with contextlib.suppress(OSError):  # of whoever had this loop device before
            os.fsync(self._held)

    def flush(self) -> None:
        """See whatever was written to it on what it stands on.

        An error of writing is told once to each descriptor that was open when it happened: this one
        has been since the device was made.  Raises `CopyFailed`.
        """
        assert self._over is not None
        try:
            os.fsync(self._held)
            os.fsync(self._over.backing)
            fcntl.ioctl(self._held, ioctls.BLKFLSBUF)  # whoever reads now reads what is there
        except OSError as error:
            raise CopyFailed(f"the destination cannot be written: {error.strerror}") from None

    def release(self) -> None:
        """Detach it.  Raises `Unreleased` if somebody keeps it busy."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        deadline = time.monotonic() + _PATIENCE
        while self._let_go():
            if time.monotonic() > deadline:
                raise Unreleased(f"{self.device} is still in use", "see: lsblk, fuser")
            time.sleep(0.02)

    def _let_go(self) -> bool:
        """Ask the kernel to detach the device if it is ours; whether it was."""
        with contextlib.suppress(OSError), _opened(self.device) as descriptor:
            status = _status(descriptor)
            if status is None or status.reference != self.reference:
                return False
            with contextlib.suppress(OSError):
                fcntl.ioctl(descriptor, ioctls.LOOP_CLR_FD)
            return True
        return False


@contextlib.contextmanager
def attached(ledger: Ledger, over: Over) -> Iterator[Loop]:
    """A loop device over `over` until the end of the block."""
    with contextlib.ExitStack() as stack:
        for attempt in range(_ATTEMPTS):
            device, reference = _free_device(), f"bsync:{ledger.run}"
            if not os.path.lexists(device):
                stack.enter_context(ledger.holding(Node(device, _number_of(device))))
            try:
                loop = stack.enter_context(ledger.holding(Loop(device, reference, over)))
                break
            except Busy:
                if attempt == _ATTEMPTS - 1:
                    raise
        if over.longest:
            stack.enter_context(_short_requests(device, over.longest))
        yield loop


@contextlib.contextmanager
def _short_requests(device: str, longest: int) -> Iterator[None]:
    """No request of the device is longer than so many KiB during the block.

    Raises `Unavailable` where the kernel cannot be told.
    """
    limit = Path("/sys/block", Path(device).name, "queue/max_sectors_kb")
    try:
        before = limit.read_text()
        limit.write_text(str(longest))
    except OSError as error:
        hint = "sysfs must be writable: mount -o remount,rw /sys"
        raise Unavailable(f"{limit} cannot be set: {error.strerror}", hint) from None
    try:
        yield
    finally:  # whoever has the device next has it as it was
        with contextlib.suppress(OSError):
            limit.write_text(before)


def status(device: str, number: int) -> LoopStatus | None:
    """What the loop device of this name and number stands on; None where it is not attached.

    Raises `Unavailable` where the kernel cannot be asked.
    """
    try:
        with _node(device, number) as path, _opened(path) as descriptor:
            return _status(descriptor)
    except OSError as error:
        raise Unavailable(
            f"cannot see what {device} stands on: {error.strerror}", _hint()
        ) from None


@contextlib.contextmanager
def _node(device: str, number: int) -> Iterator[str]:
    """A node of this number: `device`, if it is one, else one that is there for a moment."""
    if _is_node(device, number):
        yield device
        return
    node = Node(f"{device}.bsync-{os.getpid()}", number)
    try:
        node.acquire()
        yield node.path
    finally:
        node.release()


def _status(descriptor: int) -> LoopStatus | None:
    """None where the device is not attached, or its file's filesystem is dead, so that nobody
    reads or writes there.  Raises `OSError`."""
    info = bytearray(_INFO.size)
    try:
        fcntl.ioctl(descriptor, ioctls.LOOP_GET_STATUS64, info)
    except OSError as error:
        if error.errno not in (errno.ENXIO, errno.ENOTCONN):
            raise
        return None
    device, inode, rdev, start, size, *_, flags, name, _, _, _, _ = _INFO.unpack(info)
    reference = name.rstrip(b"\0").decode("utf-8", "replace")
    return LoopStatus(device, inode, rdev, Extent(start, size), bool(flags & _READ_ONLY), reference)


def _is_node(path: str, number: int) -> bool:
    with contextlib.suppress(OSError):
        facts = os.stat(path)
        return stat.S_ISBLK(facts.st_mode) and facts.st_rdev == number
    return False


def _free_device() -> str:
    """The first loop device that is not attached, made by the kernel if need be."""
    loaded("loop", _CONTROL)
    try:
        with _opened(str(_CONTROL)) as control:
            return f"/dev/loop{fcntl.ioctl(control, ioctls.LOOP_CTL_GET_FREE)}"
    except OSError as error:
        hint = f"modprobe loop; {_hint()}" if error.errno == errno.ENOENT else _hint()
        raise Unavailable(f"no free loop device: {_CONTROL}: {error.strerror}", hint) from None


def _hint() -> str:
    """What to do where a loop device cannot be reached."""
    return "run as root" if os.geteuid() else _CONTAINER


def _number_of(device: str) -> int:
    """The number of a loop device without a node.  Raises `Unavailable`."""
    path = Path("/sys/block", Path(device).name, "dev")
    try:
        major, minor = path.read_text().strip().split(":")
    except OSError as error:
        raise Unavailable(f"{device} is missing; {path}: {error.strerror}", _CONTAINER) from None
    return os.makedev(int(major), int(minor))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
