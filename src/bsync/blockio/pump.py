# SPDX-License-Identifier: GPL-2.0-only
"""Moving runs of blocks from one side to the other, several at once, in bounded memory."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from bsync import pace
from bsync.blockio.access import Access
from bsync.blockio.memory import Buffer, buffer
from bsync.deferred import deferred
from bsync.model import ranges
from bsync.model.arrays import Flags, Numbers

WORKERS = 8
PIECE = 4 << 20  # bytes of the longest run that is moved at once
_ZEROES = 64 << 10  # bytes; fewer zeroes than that are written like any data
_GLANCE = 0.1  # seconds between two looks at the progress

Run = tuple[int, int]  # first block, blocks
Advance = Callable[[int], None]
Work = Callable[[Run, Buffer, Buffer], int]


def run_all(
    runs: Iterable[Run], work: Work, block_size: int, advance: Advance | None = None
) -> int:
    """Do `work` for every run, in several threads, each with two buffers of its own; a run that
    is longer than these is cut.

    Calls `advance` with the bytes of the runs that are done; returns the sum of what `work`
    gave.  The first failure ends all of it, and is raised; so does a signal's exception.
    """
    return _Pump(cut(runs, block_size), work, block_size).drain(advance or _nobody)


def cut(runs: Iterable[Run], block_size: int) -> Iterator[Run]:
    """The same blocks in runs of at most `PIECE` bytes."""
    longest = PIECE // block_size
    for first, count in runs:
        for at in range(0, count, longest):
            yield first + at, min(longest, count - at)


def _nobody(done: int) -> None:
    """Nobody wants to know."""


class _Pump:
    def __init__(self, runs: Iterator[Run], work: Work, block_size: int) -> None:
        self._runs, self._work, self._block_size = runs, work, block_size
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._done = self._result = 0

    def drain(self, advance: Advance) -> int:
        threads = [threading.Thread(target=self._labour, daemon=True) for _ in range(WORKERS)]
        try:
            with deferred():  # one that is starting could not be joined
                for thread in threads:
                    thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(_GLANCE)
                    advance(self._done)
        finally:
            self._stop.set()
            for thread in threads:
                if thread.ident is not None:
                    thread.join()
        if self._failure is not None:
            raise self._failure
        advance(self._done)
        return self._result

    def _labour(self) -> None:
        try:
            here, there = buffer(PIECE), buffer(PIECE)
            while (run := self._next()) is not None:
                size = run[1] * self._block_size
                result = self._work(run, here[:size], there[:size])
                with self._lock:
                    self._done += size
                    self._result += result
        except BaseException as error:  # it is raised where it is waited for
            with self._lock:
                self._failure = self._failure or error
            self._stop.set()

    def _next(self) -> Run | None:
        with self._lock:
            run = None if self._stop.is_set() else next(self._runs, None)
        if run and self._stop.wait(pace.delay(run[1] * self._block_size)):
            return None
        return run


def copying(source: Access, destination: Access) -> Work:
    """Write what the source holds, but long zeroes only where something else stands: so a
    sparse destination stays sparse, whatever its discarding is worth."""
    bs = source.block_size

    def work(run: Run, here: Buffer, there: Buffer) -> int:
        first, count = run
        if _both_holes(source, destination, run):
            return 0
        source.read(first, here)
        written = 0
        for start, length, zero in _parts(here.reshape(count, bs)):
            data = here[start * bs : (start + length) * bs]
            if zero and _reads_zero(destination, first + start, there[: len(data)]):
                continue
            destination.write(first + start, data)
            written += len(data)
        return written

    return work


def replacing(source: Access, destination: Access) -> Work:
    """Write what the source holds, where something else is known to stand."""

    def work(run: Run, here: Buffer, _there: Buffer) -> int:
        source.read(run[0], here)
        destination.write(run[0], here)
        return len(here)

    return work


def mending(source: Access, destination: Access) -> Work:
    """Write the blocks that differ."""
    bs = source.block_size

    def work(run: Run, here: Buffer, there: Buffer) -> int:
        first, _ = run
        if _both_holes(source, destination, run):
            return 0
        source.read(first, here)
        destination.read(first, there)
        differ = unequal(here, there, bs)
        written = 0
        for start, length in ranges.of_bits(differ, 0).pairs():
            destination.write(first + start, here[start * bs : (start + length) * bs])
            written += length * bs
        return written

    return work


def comparing(source: Access, destination: Access, tell: Callable[[Numbers], None]) -> Work:
    """Count the blocks that differ, and `tell` their numbers; nothing is written."""

    def work(run: Run, here: Buffer, there: Buffer) -> int:
        if _both_holes(source, destination, run):
            return 0
        source.read(run[0], here)
        destination.read(run[0], there)
        differ = run[0] + np.flatnonzero(unequal(here, there, source.block_size))
        tell(differ)
        return len(differ)

    return work


def _both_holes(source: Access, destination: Access, run: Run) -> bool:
    return source.is_hole(*run) and destination.is_hole(*run)


def unequal(here: Buffer, there: Buffer, block_size: int) -> Flags:
    """Which blocks differ.  Equal buffers, the usual case, are found so at once."""
    count = len(here) // block_size
    one, other = here.view(np.uint64), there.view(np.uint64)
    if np.array_equal(one, other):
        return np.zeros(count, np.bool_)
    return np.asarray((one != other).reshape(count, -1).any(axis=1))


def _parts(blocks: NDArray[np.uint8]) -> Iterator[tuple[int, int, bool]]:
    """The run cut into (first block, blocks, whether all are zero) at its long zeroes."""
    count, bs = blocks.shape
    suspects = np.flatnonzero(blocks.view(np.uint64)[:, 0] == 0)
    zero = np.zeros(count, np.bool_)
    if len(suspects):
        zero[suspects] = ~blocks.view(np.uint64)[suspects].any(axis=1)
    at = 0
    for start, length in ranges.of_bits(zero, 0).pairs():
        if length * bs < _ZEROES:
            continue
        if start > at:
            yield at, start - at, False
        yield start, length, True
        at = start + length
    if at < count:
        yield at, count - at, False


def _reads_zero(destination: Access, block: int, into: Buffer) -> bool:
    destination.read(block, into)
    return not into.view(np.uint64).any()
