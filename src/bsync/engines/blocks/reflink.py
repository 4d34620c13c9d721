# SPDX-License-Identifier: GPL-2.0-only
"""Two image files on one filesystem that shares extents (XFS, btrfs): nothing is copied.

See ioctl_ficlonerange(2).
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from itertools import takewhile

from bsync.blockio.pump import copying, run_all
from bsync.engines.blocks import bitmaps
from bsync.engines.blocks.pair import Pair
from bsync.ioctls import FICLONERANGE

_REQUEST = struct.Struct("=qQQQ")  # struct file_clone_range of linux/fs.h
_HEAD = 1 << 20  # bytes at the beginning that are copied all the same: the marker stays there


def share(pair: Pair) -> bool:
    """Let the destination have the source's extents; whether that was possible."""
    here, there = pair.source.access, pair.destination
    size = pair.source.superblock.size
    if size <= _HEAD or not _both_files(here.device.descriptor, there.device.descriptor):
        return False
    request = _REQUEST.pack(
        here.device.descriptor, here.extent.start + _HEAD, size - _HEAD,
        there.extent.start + _HEAD,
    )  # fmt: skip
    there.flush()
    try:
        fcntl.ioctl(there.device.descriptor, FICLONERANGE, request)
    except OSError:  # another filesystem, one that cannot, or extents that do not line up
        return False
    _copy_head(pair)
    return True


def _both_files(*descriptors: int) -> bool:
    facts = [os.fstat(descriptor) for descriptor in descriptors]
    return all(stat.S_ISREG(fact.st_mode) for fact in facts) and facts[0].st_dev == facts[1].st_dev


def _copy_head(pair: Pair) -> None:
    source, last = pair.source, _HEAD // pair.source.access.block_size
    used = takewhile(lambda run: run[0] < last, bitmaps.runs(source, 0))
    runs = ((first, min(count, last - first)) for first, count in used)
    run_all(runs, copying(source.access, pair.destination), source.access.block_size)
    pair.destination.flush()
