# SPDX-License-Identifier: GPL-2.0-only
"""The blocks engine where only the blocks in use are known: all of them are copied, or compared.

Nothing else changes before the first block is erased, and that block comes last: until then only
our own sign stands there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from bsync.acquire.block import Device
from bsync.allocation import Allocation, Unknown
from bsync.blockio import access as accesses
from bsync.blockio import pump
from bsync.blockio.access import Access
from bsync.blockio.memory import Buffer
from bsync.blockio.pump import Run, Work, run_all
from bsync.engines.rsync import Transfer
from bsync.errors import Damaged
from bsync.filesystems.kind import Held, Mapped
from bsync.filesystems.kinds import kind_of
from bsync.layout import Filesystem
from bsync.plan.steps import Place, Way
from bsync.unfinished import SECTOR

Advance = Callable[[int], None]


class Copier:
    """One filesystem on its way; see `engines.blocks.engine.Copier`."""

    def __init__(self, ends: tuple[Access, Access], like: Filesystem, place: Place, way: Way):
        self._source, self._destination = ends
        self._like, self._way = like, way
        self._start = place.destination.start if place.number else None
        self._size = like.superblock.block_size
        self._held: Held = ()
        self._runs: list[Run] = []
        self._used = 0
        self.idle = False  # nothing differs, so nothing is written

    def prepare(self) -> None:
        """Find the blocks in use; nothing is written.  Raises `CopyFailed`, and `Damaged` where
        they are not certain."""
        mapped, read = _mapped(self._like), self._source.bytes_at
        try:
            allocation = mapped.allocation(self._like, read)
        except Unknown as error:
            what = f"its blocks in use are not certain: {error}"
            raise Damaged(
                f"{self._source.device.word}: {what}", "was it changed meanwhile?"
            ) from None
        self._held = mapped.held(self._like, read, self._start)
        self._runs = _rest(allocation, self._held)
        self._used = allocation.used

    def begin(self, *, always: bool = False) -> None:
        """What is there is marked once something is found to differ; what is not, is already."""

    def copy(self, advance: Advance) -> Transfer:
        """Bring everything but what is held back.  Raises `CopyFailed`."""
        runs = self._runs
        if self._way is Way.COMPARE:
            runs = self._differing(advance)
            self.idle = not runs and self._held_is_there()
            if self.idle:
                return Transfer()
            self._destination.put(0, SECTOR.ljust(self._size, b"\0"))
        self._destination.flush()
        make = pump.copying if self._way is Way.FRESH else pump.mending
        work = make(self._source, self._destination)
        written = run_all(runs, work, self._size, None if self._way is Way.COMPARE else advance)
        self._destination.flush()
        advance(self._used)
        return Transfer(transferred=written + sum(len(data) for _, data in self._held))

    def complete(self) -> None:
        """Write what was held back, the first block last.  Raises `CopyFailed`."""
        for at, data in reversed(self._held):
            self._destination.flush()
            self._destination.put(at, data)
        self._destination.flush()

    def same(self) -> bool:
        """Whether both sides hold the same in the blocks in use."""
        return self._held_is_there() and not self._differing(lambda _: None)

    def _held_is_there(self) -> bool:
        there = self._destination.bytes_at
        return all(there(at, len(data)) == data for at, data in self._held)

    def _differing(self, advance: Advance) -> list[Run]:
        """The runs that are not the same on both sides."""
        found: list[Run] = []
        run_all(self._runs, self._noting(found), self._size, advance)
        return sorted(found)

    def _noting(self, found: list[Run]) -> Work:
        """Put the runs that differ into `found`; nothing is written."""
        compare = pump.comparing(self._source, self._destination, lambda _: None)

        def work(run: Run, here: Buffer, there: Buffer) -> int:
            if compare(run, here, there):
                found.append(run)
            return 0

        return work


@contextlib.contextmanager
def opened(
    source: Device, destination: Device, place: Place, like: Filesystem, way: Way,
    *, writable: bool = True,
) -> Iterator[Copier]:  # fmt: skip
    """A copier of `like`, which is in `place`.  Raises `CopyFailed`."""
    size = like.superblock.block_size
    with (
        accesses.opened(source, place.source, size, writable=False) as here,
        accesses.opened(destination, place.destination, size, writable=writable) as there,
    ):
        yield Copier((here, there), like, place, way)


def _mapped(like: Filesystem) -> Mapped[Filesystem]:
    found = kind_of(like).mapped
    if found is None:
        raise TypeError(f"the blocks in use of {like.kind} are not read so")
    return found


def _rest(allocation: Allocation, held: Held) -> list[Run]:
    """The blocks in use but for those that are held back."""
    size = allocation.block_size
    spared = [
        block
        for at, data in held
        for block in range(at // size, (at + len(data)) // size)
    ]  # fmt: skip
    return allocation.without(spared).pairs()
