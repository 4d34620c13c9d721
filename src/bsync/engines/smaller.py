# SPDX-License-Identifier: GPL-2.0-only
"""The blocks engine where a filesystem is laid out anew for a smaller place, by a pure function of
the source: what differs from that is written, and the first sector last, as in `allocated`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain

from bsync import pace
from bsync.acquire.span import Span
from bsync.engines.rsync import Transfer
from bsync.errors import Damaged
from bsync.filesystems.fat.smaller import Piece, Smaller, smaller
from bsync.filesystems.fat.superblock import Fat
from bsync.in_progress import SECTOR
from bsync.model.allocation import Unknown
from bsync.plan.steps import Place, Way
from bsync.units import MIB

Advance = Callable[[int], None]


class Copier:
    """One filesystem on its way; see `engines.blocks.engine.Copier`."""

    def __init__(self, spans: tuple[Span, Span], like: Fat, place: Place, way: Way) -> None:
        self._source, self._destination = spans
        self._like, self._way = like, way
        self._start = place.destination.start if place.number else None
        self._wanted = Smaller((), ())
        self._before: Callable[[], None] = lambda: None
        self.idle = False  # nothing differs, so nothing is written
        self.notice = ""

    def prepare(self) -> None:
        """Find out what comes where; nothing is written.  Raises `Damaged`."""
        size = self._destination.size
        try:
            self._wanted = smaller(self._source.read, self._like.superblock, size, self._start)
        except Unknown as error:
            raise Damaged(
                f"{self._source.word} cannot be made smaller: {error}", "run fsck.vfat on it"
            ) from None

    def before_writing(self, act: Callable[[], None]) -> None:
        """What is to happen before the first write, if there is any."""
        self._before = act
        if self._way is not Way.COMPARE:
            act()

    def begin(self, *, always: bool = False) -> None:
        """What is there is marked once something is found to differ."""

    def copy(self, advance: Advance) -> Transfer:
        """Bring everything but what is held back.  Raises `CopyFailed`."""
        if self._way is Way.COMPARE and self.same(advance):
            self.idle = True
            return Transfer()
        self._before()
        self._destination.write(0, SECTOR)
        self._destination.flush()
        written = done = 0
        for at, data in self._all():
            written += self._mend(at, data)
            done += len(data)
            advance(done)
        self._destination.flush()
        return Transfer.of_bytes(written + sum(len(data) for _, data in self._wanted.held))

    def _mend(self, at: int, data: bytes) -> int:
        if self._destination.read(at, len(data)) == data:
            return 0
        self._destination.write(at, data)
        return len(data)

    def _all(self) -> Iterator[tuple[int, bytes]]:
        """Everything but what is held back, by and by."""
        for piece in self._wanted.pieces:
            yield from self._parts(piece)

    def _parts(self, piece: Piece) -> Iterator[tuple[int, bytes]]:
        at, what, size = piece
        for done in range(0, size, MIB):
            count = min(MIB, size - done)
            if isinstance(what, bytes):
                yield at + done, what[done : done + count]
            else:
                pace.wait(count)
                yield at + done, self._source.read(what + done, count)

    def complete(self) -> None:
        """Write what was held back, the first sector last.  Raises `CopyFailed`."""
        for at, data in reversed(self._wanted.held):
            self._destination.flush()
            self._destination.write(at, data)
        self._destination.flush()

    def same(self, advance: Advance) -> bool:
        """Whether the destination holds all of it."""
        read, done = self._destination.read, 0
        for at, data in chain(self._wanted.held, self._all()):
            if read(at, len(data)) != data:
                return False
            done += len(data)
            advance(done)
        return True
