# SPDX-License-Identifier: GPL-2.0-only
"""How fast this run may copy (--bwlimit): one limit for all that its engines read of the source."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

_lock = threading.Lock()
_rate = 0  # bytes a second; 0: as fast as it goes
_free = 0.0  # when all that was asked for is through, by the monotonic clock


@contextlib.contextmanager
def limited(rate: int) -> Iterator[None]:
    """Copy at most `rate` bytes a second to the end of the block; 0: as fast as it goes."""
    global _rate, _free
    _rate, _free = rate, 0.0
    try:
        yield
    finally:
        _rate = 0


def rate() -> int:
    """Bytes a second; 0: as fast as it goes."""
    return _rate


def delay(count: int) -> float:
    """How many seconds to wait before `count` bytes are copied; they count as copied then."""
    global _free
    if not _rate:
        return 0.0
    with _lock:
        now = time.monotonic()
        begin = max(_free, now)
        _free = begin + count / _rate
        return begin - now


def wait(count: int) -> None:
    """Wait before `count` bytes are copied."""
    if seconds := delay(count):
        time.sleep(seconds)
