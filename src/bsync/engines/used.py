# SPDX-License-Identifier: GPL-2.0-only
"""The raw engine where it is known which blocks are in use: no others are read or written.

On a place of which nothing is known all of them are copied; where a copy is, or may be, those
that differ.  As in `raw`, nothing else changes before the first block is erased, and that
block comes last: until then only our own mark stands at the beginning.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bsync.acquire.block import Device
from bsync.blockio import access as accesses
from bsync.blockio.access import Access
from bsync.blockio.memory import Buffer, buffer
from bsync.blockio.pump import Run, Work, comparing, copying, mending, run_all
from bsync.layout import Extent
from bsync.unfinished import SECTOR
from bsync.usage import Usage

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Pair:
    """Both sides, in blocks of the source's size."""

    source: Access
    destination: Access


@contextlib.contextmanager
def opened(
    source: Device, here: Extent, destination: Device, there: Extent, usage: Usage,
    *, writable: bool = True,
) -> Iterator[Pair]:  # fmt: skip
    """Both sides of a copy.  Raises `CopyFailed`."""
    size = usage.block_size
    with (
        accesses.opened(source, here, size, writable=False) as one,
        accesses.opened(destination, there, size, writable=writable) as other,
    ):
        yield Pair(one, other)


def copy(pair: Pair, usage: Usage, advance: Advance, *, compare: bool) -> int:
    """Make the blocks in use those of the source.  Returns how many bytes were written.

    `compare`: those that are the same already are neither written nor, if all are, is anything.
    """
    source, destination = pair.source, pair.destination
    size = usage.block_size
    runs = all_but_first(usage)
    if compare:
        runs = _differing(pair, runs, advance)
    if not runs and _first_is_same(pair):
        advance(usage.used)
        return 0
    if runs:
        destination.write(0, _array(SECTOR.ljust(size, b"\0")))
        destination.flush()
    work = mending(source, destination) if compare else copying(source, destination)
    written = run_all(runs, work, size, None if compare else advance)
    destination.flush()
    first = buffer(size)
    source.read(0, first)
    destination.write(0, first)
    destination.flush()
    advance(usage.used)
    return written + size


def same(pair: Pair, usage: Usage) -> bool:
    """Whether both sides hold the same in the blocks in use."""
    return _first_is_same(pair) and not _differing(pair, all_but_first(usage), lambda _: None)


def all_but_first(usage: Usage) -> list[Run]:
    """The blocks in use but the first of all."""
    ends = ((max(start, 1), start + count) for start, count in usage.runs)
    return [(start, end - start) for start, end in ends if end > start]


def _differing(pair: Pair, runs: list[Run], advance: Advance) -> list[Run]:
    """The runs that are not the same on both sides."""
    found: list[Run] = []
    run_all(runs, _noting(pair, found), pair.source.block_size, advance)
    return sorted(found)


def _noting(pair: Pair, found: list[Run]) -> Work:
    """Put the runs that differ into `found`; nothing is written."""
    compare = comparing(pair.source, pair.destination, lambda _: None)

    def work(run: Run, here: Buffer, there: Buffer) -> int:
        if compare(run, here, there):
            found.append(run)
        return 0

    return work


def _first_is_same(pair: Pair) -> bool:
    here, there = buffer(pair.source.block_size), buffer(pair.source.block_size)
    pair.source.read(0, here)
    pair.destination.read(0, there)
    return bool(here.data == there.data)


def _array(data: bytes) -> Buffer:
    """`data` in memory that direct I/O takes."""
    made = buffer(len(data))
    made.data[:] = data
    return made
