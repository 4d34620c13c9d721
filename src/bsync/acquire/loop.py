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
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bsync.errors import CopyFailed, Unavailable, Unreleased
from bsync.layout import Extent
from bsync.ledger import Facts, Ledger
from bsync.run import loaded

_CONTROL = Path("/dev/loop-control")
_CTL_GET_FREE, _CONFIGURE, _GET_STATUS, _CLR_FD = 0x4C82, 0x4C0A, 0x4C05, 0x4C01
_READ_ONLY, _AUTOCLEAR, _DIRECT_IO = 1, 4, 16
_INFO = struct.Struct("=QQQQQIIII64s64s32sQQ")
_PATIENCE = 10.0  # seconds for a loop device to go after its last user
_SYSFS = "mount -t sysfs sysfs /sys"
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
    direct: bool = True  # with direct I/O, so that nothing is cached twice


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
        config = struct.pack("=II", self._over.backing, 0) + info + bytes(64)
        try:
            self._held = os.open(self.device, os.O_RDWR if self._over.writable else os.O_RDONLY)
            fcntl.ioctl(self._held, _CONFIGURE, config)
        except OSError as error:
            kind = Busy if error.errno == errno.EBUSY else Unavailable
            raise kind(f"{self.device} cannot be attached: {error.strerror}", _hint()) from None

    def flush(self) -> None:
        """See whatever was written to it on what it stands on.

        An error of writing is told once to each descriptor that was open when it happened: this one
        has been since the device was made.  Raises `CopyFailed`.
        """
        assert self._over is not None
        try:
            os.fsync(self._held)
            os.fsync(self._over.backing)
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
                fcntl.ioctl(descriptor, _CLR_FD)
            return True
        return False


@contextlib.contextmanager
def attached(ledger: Ledger, over: Over) -> Iterator[Loop]:
    """A loop device over `over` until the end of the block."""
    with contextlib.ExitStack() as stack:
        for attempt in range(_ATTEMPTS):
            device, reference = _free_device(), f"bsync:{ledger.run}"
            try:
                loop = stack.enter_context(ledger.holding(Loop(device, reference, over)))
                break
            except Busy:
                if attempt == _ATTEMPTS - 1:
                    raise
        yield loop


def devices() -> list[str]:
    """Every loop device that can be found.  Raises `Unavailable` where nothing can be seen."""
    if not Path("/sys/block").is_dir():
        raise Unavailable("what is in use cannot be seen: /sys is not mounted", _SYSFS)
    nodes = {path.name for path in Path("/dev").glob("loop[0-9]*") if path.is_block_device()}
    names = {folder.parent.name for folder in Path("/sys/block").glob("loop*/loop")}
    return [f"/dev/{name}" for name in sorted(nodes | names)]


def status(device: str) -> LoopStatus | None:
    """What the loop device stands on; None where it is not attached or no loop device."""
    with contextlib.suppress(OSError), _opened(device) as descriptor:
        return _status(descriptor)
    return None


def _status(descriptor: int) -> LoopStatus | None:
    info = bytearray(_INFO.size)
    try:
        fcntl.ioctl(descriptor, _GET_STATUS, info)
    except OSError:
        return None
    device, inode, rdev, start, size, *_, flags, name, _, _, _, _ = _INFO.unpack(info)
    reference = name.rstrip(b"\0").decode("utf-8", "replace")
    return LoopStatus(device, inode, rdev, Extent(start, size), bool(flags & _READ_ONLY), reference)


def _free_device() -> str:
    """The first loop device that is not attached, made by the kernel if need be."""
    loaded("loop", _CONTROL)
    try:
        with _opened(str(_CONTROL)) as control:
            return f"/dev/loop{fcntl.ioctl(control, _CTL_GET_FREE)}"
    except OSError as error:
        raise Unavailable(f"no loop device: {error.strerror}", _hint()) from None


def _hint() -> str:
    """What to do where there are none."""
    if os.geteuid():
        return "run as root"
    return "modprobe loop; a container needs /dev/loop-control and the nodes /dev/loop0, ..."


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
