# SPDX-License-Identifier: GPL-2.0-only
"""For the tests of storage daemons: a ledger in the lab, and what must not be left of it."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lab import MIB, Lab, call, wait_until

from bsync import ledger as ledgers
from bsync.acquire.nbd import Channel
from bsync.acquire.storage_daemon import DIRECT_IO
from bsync.ledger import Ledger

BLOCK = 65536  # bytes
SIZE = 64 * MIB


@contextlib.contextmanager
def ledger_in(lab: Lab) -> Iterator[Ledger]:
    """A run's ledger; nothing of the run is left at the end."""
    with ledgers.opened(lab.runtime) as ledger:
        yield ledger
    assert not ledger.failures
    assert not command_lines(ledger.run)
    assert ledger.run not in Path("/proc/self/mountinfo").read_text()


def command_lines(part: str) -> list[str]:
    """The command lines of this machine that contain `part`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if part in words:
                found.append(words)
    return found


def environments(part: str) -> list[str]:
    """The processes of this machine with `part` in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if part.encode() in (process / "environ").read_bytes():
                found.append(process.name)
    return found


def put(channel: Channel, number: int, contents: bytes) -> None:
    """Write a block past FUSE."""
    view = memoryview(bytearray(contents))
    assert channel.pwritev([view], number * BLOCK) == len(contents)


def got(channel: Channel, number: int) -> bytes:
    """A block, read past FUSE."""
    room = bytearray(BLOCK)
    assert channel.preadv([memoryview(room)], number * BLOCK) == BLOCK
    return bytes(room)


@contextlib.contextmanager
def loop_over(path: Path, *, writable: bool) -> Iterator[str]:
    """A loop device over an export, as bsync has to make it, and locked as bsync locks it: what
    udev reads of it at that moment, the kernel would not forget."""
    direct = "on" if DIRECT_IO["writable" if writable else "read-only"] else "off"
    mode = [] if writable else ["--read-only"]
    device = call(
        "losetup", "--find", "--show", *mode, f"--direct-io={direct}", path
    ).strip()  # fmt: skip
    try:
        with open(device, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            yield device
    finally:
        call("losetup", "--detach", device)
        wait_until(
            lambda: not Path(f"/sys/block/{Path(device).name}/loop").exists(), lambda: device
        )


@contextlib.contextmanager
def mounted(device: str, folder: Path, options: str = "rw") -> Iterator[Path]:
    """The filesystem on the device."""
    folder.mkdir()
    call("mount", "-o", options, device, folder)
    try:
        yield folder
    finally:
        call("umount", folder, ok=(0, 32))
        folder.rmdir()


def block(number: int) -> bytes:
    """Contents that no other block has."""
    return struct.pack("<Q", number + 1) * (BLOCK // 8)


def write_blocks(device: str, numbers: range) -> None:
    """Write whole blocks past the page cache, from several threads."""

    def write(some: range) -> None:
        descriptor = os.open(device, os.O_RDWR | os.O_DIRECT)
        try:
            with mmap.mmap(-1, BLOCK) as page:
                for number in some:
                    page[:] = block(number)
                    os.pwritev(descriptor, [page], number * BLOCK)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, (numbers[part::4] for part in range(4))))


def wrong_blocks(image: Path, numbers: range) -> list[int]:
    """The blocks of the image that do not hold what was written."""
    with image.open("rb") as file:
        return [n for n in numbers if os.pread(file.fileno(), BLOCK, n * BLOCK) != block(n)]


def make_filesystem(device: str, folder: Path) -> None:
    """An ext4 with files in it, whole on the device."""
    call("mke2fs", "-q", "-t", "ext4", "-F", device)
    with mounted(device, folder) as tree:
        for number in range(8):
            (tree / f"file{number}").write_bytes(block(number) * 16)
        call("sync", "-f", tree)


def assert_filesystem(lab: Lab, image: Path) -> None:
    """What `make_filesystem` made is in the image."""
    lab.assert_clean(image)
    with lab.mounted(image, read_only=True) as tree:
        for number in range(8):
            assert (tree / f"file{number}").read_bytes() == block(number) * 16
