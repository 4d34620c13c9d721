# SPDX-License-Identifier: GPL-2.0-only
"""What state the machine's memory is in when a run begins.

A virtual machine may give memory that nobody uses back to its host (free page reporting of the
balloon device), which makes it anew when it is wanted, page by page, and more slowly than many a
disk is read.  A copy through the page cache pays for that, a direct one does not; so a time
means nothing as long as the state before it was left to chance.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path

from benchlib.disks import drop_caches, new_image
from benchlib.machine import memory_bytes

FILLER = "filler.img"
SPARE = 3 << 30  # Bytes that stay free: nobody is to begin with having to make room.
RETURN_SECONDS = 45.0  # Half as long makes a copy through the page cache faster.
PIECE = 1 << 20


class Memory(StrEnum):
    """Where the memory that a run will use is when it begins."""

    IN_USE = "in use"
    GIVEN_BACK = "given back"

    def prepare(self, scratch: Path) -> None:
        """Drop all caches and bring the memory into this state; about a minute at most."""
        drop_caches()
        if self is Memory.IN_USE:
            _fill_page_cache(scratch / FILLER)
        else:
            time.sleep(RETURN_SECONDS)


def _fill_page_cache(filler: Path) -> None:
    """Let the page cache be full of what nobody wants, as on a machine that runs for long: a
    file without a block, which costs the disk nothing."""
    size = memory_bytes("MemAvailable") - SPARE
    if size < PIECE:
        return
    new_image(filler, size)
    descriptor = os.open(filler, os.O_RDONLY)
    try:
        workers = os.cpu_count() or 1
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(_read, [descriptor] * workers, _shares(size, workers)):
                pass
    finally:
        os.close(descriptor)


def _read(descriptor: int, share: range) -> None:
    room = bytearray(PIECE)
    for at in share:
        os.preadv(descriptor, [room], at)


def _shares(size: int, workers: int) -> list[range]:
    step = -(-size // workers // PIECE) * PIECE
    return [range(at, min(at + step, size), PIECE) for at in range(0, size, step)]
