# SPDX-License-Identifier: GPL-2.0-only
"""Image files, loop devices, mounts and caches: all released by whoever made them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchlib.proc import CommandFailed, run, signals_deferred

RELEASE_SECONDS = 15.0
RETRY_SECONDS = 0.1
POLL_SECONDS = 0.005
DROP_CACHES = Path("/proc/sys/vm/drop_caches")


def work_directory() -> Path:
    """Where images, results and mount points live: never inside the repository."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    path = Path(os.environ.get("BSYNC_BENCH_DIR") or Path(cache) / "bsync-bench")
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Keep out a second benchmark, which would spoil both runs' times."""
    with (directory / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(f"another benchmark is using {directory}") from None
        yield


def new_image(path: Path, size: int) -> None:
    """A fresh image file without any allocated block."""
    path.unlink(missing_ok=True)
    with path.open("xb") as image:
        image.truncate(size)


@contextlib.contextmanager
def attached(image: Path, *, read_only: bool = False) -> Iterator[Path]:
    """A loop device over the image, with direct I/O: one page cache instead of two."""
    command = ("losetup", "--find", "--show", "--direct-io=on")
    options = ("--read-only",) if read_only else ()
    with contextlib.ExitStack() as stack:
        with signals_deferred():
            device = Path(run([*command, *options, str(image)]).output.strip())
            stack.callback(_detach, device, image)
        _warn_without_direct_io(device)
        yield device
        if not read_only:
            flush(device)


@contextlib.contextmanager
def mounted(device: Path, parent: Path, options: str) -> Iterator[Path]:
    """The device's ext4, mounted on a new directory below `parent`."""
    with contextlib.ExitStack() as stack:
        with signals_deferred():
            point = Path(tempfile.mkdtemp(prefix="mount-", dir=parent))
            stack.callback(point.rmdir)
            run(["mount", "-t", "ext4", "-o", options, device, point])
            stack.callback(_unmount, point)
        yield point


@contextlib.contextmanager
def mounted_image(image: Path, parent: Path, *, read_only: bool = False) -> Iterator[Path]:
    """The image's ext4, mounted through a loop device of its own."""
    options = "ro" if read_only else "rw"
    with (
        attached(image, read_only=read_only) as device,
        mounted(device, parent, options) as point,
    ):
        yield point


def flush(path: Path) -> None:
    """Wait until all of a file or device is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def drop_caches() -> None:
    """Let each run begin with nothing cached and nothing left to write."""
    os.sync()
    DROP_CACHES.write_text("3\n")


def allocated_bytes(path: Path) -> int:
    """How much of a sparse file really takes up space."""
    return path.stat().st_blocks * 512


def used_bytes(image: Path) -> int:
    """The blocks that the image's ext4 uses, as its superblock says (dumpe2fs(8))."""
    fields = dict(
        line.split(":", 1)
        for line in run(["dumpe2fs", "-h", image]).output.splitlines()
        if ":" in line
    )
    used = int(fields["Block count"]) - int(fields["Free blocks"])
    return used * int(fields["Block size"])


def _detach(device: Path, image: Path) -> None:
    # Someone may have detached it and given its number away: only ours is ours to detach.
    if not _is_backed_by(device, image):
        return
    with signals_deferred():
        run(["losetup", "--detach", device])
    deadline = time.monotonic() + RELEASE_SECONDS
    # The kernel detaches a busy device later, and only then has it written everything.
    while _is_backed_by(device, image):
        if time.monotonic() > deadline:
            print(f"warning: {device} is still busy", file=sys.stderr)
            return
        time.sleep(POLL_SECONDS)


def _is_backed_by(device: Path, image: Path) -> bool:
    try:
        backing = _loop_attribute(device, "backing_file")
    except OSError:
        return False
    return backing.removesuffix(" (deleted)") == str(image.resolve())


def _loop_attribute(device: Path, name: str) -> str:
    return (Path("/sys/block") / device.name / "loop" / name).read_text().rstrip("\n")


def _warn_without_direct_io(device: Path) -> None:
    if _loop_attribute(device, "dio") != "1":
        print(f"warning: no direct I/O on {device}: times include two caches", file=sys.stderr)


def _unmount(point: Path) -> None:
    deadline = time.monotonic() + RELEASE_SECONDS
    while True:
        try:
            with signals_deferred():
                run(["umount", point])
        except CommandFailed:
            # Processes just killed hold their files a moment longer.
            if time.monotonic() > deadline:
                run(["umount", "--lazy", point])
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return
