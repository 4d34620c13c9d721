# SPDX-License-Identifier: GPL-2.0-only
"""What a device stands on in the end: which bytes of which disk or file.

Names lie (links, loop devices, partitions); device numbers, inodes and offsets do not, but a disk
that has several paths has a device number for each, and is known by its identity.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bsync.acquire.identity import fact, identity_of
from bsync.acquire.loop import LoopStatus, status
from bsync.errors import Unavailable
from bsync.model.layout import Extent

_SECTOR = 512  # bytes; the unit of sysfs, whatever the disk's sectors are
_ENDLESS = 1 << 62
_DEVICES, _BLOCK = Path("/sys/dev/block"), Path("/sys/block")


@dataclass(frozen=True)
class BackingExtent:
    """A range of a storage that nothing known to us is below; `behind`: what a server of this
    machine may take it from."""

    storage: str
    extent: Extent
    behind: tuple[BackingExtent, ...] = ()

    def overlaps(self, other: BackingExtent) -> bool:
        """Whether a byte belongs to both."""
        ours, others = (self, *self.behind), (other, *other.behind)
        return any(mine._meets(theirs) for mine in ours for theirs in others)

    def _meets(self, other: BackingExtent) -> bool:
        same = self.storage == other.storage
        mine, theirs = self.extent, other.extent
        return same and mine.start < theirs.end and theirs.start < mine.end


def backing_of(facts: os.stat_result) -> BackingExtent:
    """The backing of an open file or device, by its `fstat`.  Raises `Unavailable` where the
    kernel cannot be asked: what cannot be seen is not taken for nothing."""
    if stat.S_ISBLK(facts.st_mode):
        return _block(facts.st_rdev)
    return _file(facts.st_dev, facts.st_ino, Extent(0, _ENDLESS))


def loops_on(backing: BackingExtent, but: str) -> Iterator[tuple[str, LoopStatus]]:
    """The loop devices that stand on any byte of `backing`, `but` for the one that is meant.
    Raises `Unavailable` where the kernel cannot be asked."""
    if not any(_listed(_BLOCK)):
        raise _blind(str(_BLOCK))
    for folder in _BLOCK.glob("loop*/loop"):
        device = f"/dev/{folder.parent.name}"
        loop = _status(folder.parent) if device != but else None
        if loop is not None and _below(loop).overlaps(backing):
            yield device, loop


def _file(device: int, inode: int, extent: Extent) -> BackingExtent:
    return BackingExtent(f"file {os.major(device)}:{os.minor(device)}:{inode}", extent)


def _block(rdev: int) -> BackingExtent:
    folder = _DEVICES / f"{os.major(rdev)}:{os.minor(rdev)}"
    if not folder.exists():
        raise _blind(str(folder))
    if (folder / "partition").exists():
        start, size = (int((folder / name).read_text()) * _SECTOR for name in ("start", "size"))
        return _within(_block(_number(folder.resolve().parent / "dev")), Extent(start, size))
    if (folder / "loop").exists():
        loop = _status(folder.resolve())
        if loop is not None:
            return _below(loop)
    if fact(folder / "dm/uuid").startswith("mpath-"):
        for path in sorted((folder / "slaves").glob("*/dev")):
            return _block(_number(path))
    return disk(identity_of(folder) or f"{os.major(rdev)}:{os.minor(rdev)}")


def disk(name: str, size: int = _ENDLESS) -> BackingExtent:
    """A whole disk, by its identity."""
    return BackingExtent(f"disk {name}", Extent(0, size))


def _status(folder: Path) -> LoopStatus | None:
    """What a loop device stands on, by its folder in sysfs; None if it is gone by now."""
    try:
        return status(f"/dev/{folder.name}", _number(folder / "dev"))
    except (OSError, Unavailable):
        if (folder / "loop").exists():
            raise
        return None


def _listed(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _blind(path: str) -> Unavailable:
    return Unavailable(
        f"cannot see what devices and files stand on: nothing at {path}",
        "mount sysfs: mount -t sysfs sysfs /sys",
    )


def _below(loop: LoopStatus) -> BackingExtent:
    extent = loop.extent if loop.extent.size else Extent(loop.extent.start, _ENDLESS)
    if loop.block_device:
        return _within(_block(loop.block_device), extent)
    return _file(loop.file_device, loop.file_inode, extent)


def _within(outer: BackingExtent, inner: Extent) -> BackingExtent:
    size = min(inner.size, max(0, outer.extent.size - inner.start))
    return BackingExtent(outer.storage, Extent(outer.extent.start + inner.start, size))


def _number(path: Path) -> int:
    major, minor = path.read_text().strip().split(":")
    return os.makedev(int(major), int(minor))
