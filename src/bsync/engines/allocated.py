# SPDX-License-Identifier: GPL-2.0-only
"""The blocks engine where only the blocks in use are known: all of them are copied, or compared.

Nothing else changes before the first block is erased, and that block comes last: until then only
our own sign stands there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np

from bsync.acquire.span import Span
from bsync.blockio import access as accesses
from bsync.blockio import pump
from bsync.blockio.access import Access
from bsync.blockio.pump import Run, Work, run_all
from bsync.engines.rsync import Transfer
from bsync.errors import Damaged
from bsync.filesystems.kind import Held, Mapped
from bsync.filesystems.kinds import kind_of
from bsync.in_progress import SECTOR
from bsync.model import ranges
from bsync.model.allocation import Allocation, Unknown
from bsync.model.arrays import Numbers
from bsync.model.layout import Filesystem
from bsync.plan.steps import Place, Way

Advance = Callable[[int], None]
Making = Callable[[Access, Access], Work]


class Copier:
    """One filesystem on its way; see `engines.blocks.engine.Copier`."""

    def __init__(self, ends: tuple[Access, Access], like: Filesystem, place: Place, way: Way):
        self._source, self._destination = ends
        self._like, self._way = like, way
        self._start = place.destination.start if place.number else None
        self._size = like.superblock.block_size
        self._held: Held = ()
        self._runs: list[Run] = []
        self._grows = False
        self._before: Callable[[], None] = lambda: None
        self.idle = False  # nothing differs, so nothing is written
        self.notice = ""

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

    def before_writing(self, act: Callable[[], None]) -> None:
        """What is to happen before the first write, if there is any."""
        self._before = act
        if self._way is not Way.COMPARE:
            act()

    def begin(self, *, always: bool = False) -> None:
        """What is there is marked once something is found to differ; what is not, is already.
        `always`: it is to grow in any case."""
        self._grows = always

    def copy(self, advance: Advance) -> Transfer:
        """Bring everything but what is held back.  Raises `CopyFailed`."""
        held = sum(len(data) for _, data in self._held)
        if self._way is Way.COMPARE:
            differing = self._differing(advance)
            if self._unchanged(differing):
                self.idle = not self._grows
                return Transfer()
            self._before()
            self._destination.put(0, SECTOR.ljust(self._size, b"\0"))
            written = self._run(pump.replacing, ranges.of_blocks(differing).pairs())
            return Transfer.of_bytes(written + held)
        make = pump.copying if self._way is Way.FRESH else pump.mending
        return Transfer.of_bytes(self._run(make, self._runs, advance) + held)

    def _run(self, make: Making, runs: list[Run], advance: Advance | None = None) -> int:
        """Copy these runs; the bytes that were written."""
        self._destination.flush()
        written = run_all(runs, make(self._source, self._destination), self._size, advance)
        self._destination.flush()
        return written

    def complete(self) -> None:
        """Write what was held back, the first block last.  Raises `CopyFailed`."""
        self._before()
        for at, data in reversed(self._held):
            self._destination.flush()
            self._destination.put(at, data)
        self._destination.flush()

    def same(self, advance: Advance) -> bool:
        """Whether both sides hold the same in the blocks in use, but for what growing changed."""
        return self._unchanged(self._differing(advance))

    def _unchanged(self, differing: Numbers) -> bool:
        """Whether nothing differs but these blocks, and these only because the clone was grown."""
        there = self._destination.bytes_at
        held = [at // self._size for at, data in self._held if there(at, len(data)) != data]
        blocks = np.append(differing, np.array(held, np.int64))
        mapped, read = _mapped(self._like), self._source.bytes_at
        return not len(blocks) or mapped.only_growth(self._like, read, there, blocks)

    def _differing(self, advance: Advance) -> Numbers:
        """The blocks, but for those held back, that are not the same on both sides."""
        found = [np.zeros(0, np.int64)]
        work = pump.comparing(self._source, self._destination, found.append)
        run_all(self._runs, work, self._size, advance)
        return np.sort(np.concatenate(found))


@contextlib.contextmanager
def opened(
    source: Span, destination: Span, place: Place, like: Filesystem, way: Way,
    *, writable: bool = True,
) -> Iterator[Copier]:  # fmt: skip
    """A copier of `like`, which is the source, to its `place`.  Raises `CopyFailed`."""
    size = like.superblock.block_size
    with (
        accesses.opened(source, size, writable=False) as here,
        accesses.opened(destination, size, writable=writable) as there,
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
