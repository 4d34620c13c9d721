# SPDX-License-Identifier: GPL-2.0-only
"""What the steps work with."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field

from bsync.acquire.block import Device
from bsync.acquire.span import Span
from bsync.acquire.tree import Tree, loop_over, overwrite_start
from bsync.bootcode import disarmed
from bsync.engines.copiers import Copier
from bsync.engines.rsync import Transfer
from bsync.in_progress import SECTOR
from bsync.ledger import Ledger
from bsync.model.layout import Extent
from bsync.plan.steps import Place
from bsync.run import run
from bsync.units import count_text, size_text

Advance = Callable[[int], None]

ANEW = "wipe it (wipefs -a) and run again to recreate it"


@dataclass
class Stub:
    """The boot program that says the clone is incomplete, put there before anything else is
    written: where nothing is, it is not."""

    destination: Device
    wanted: bool = False
    written: bool = False
    begun: bool = False  # something may have been written, it or what comes after it

    def write(self) -> None:
        """Write it, if it is wanted and not there yet."""
        self.begun = True
        if self.wanted and not self.written:
            self.destination.write(0, disarmed())
            self.destination.flush()
            self.written = True


@dataclass(frozen=True)
class Context:
    """One run."""

    ledger: Ledger
    source: Device
    destination: Device
    stub: Stub
    trees: dict[int, Tree] = field(default_factory=dict)  # the source's, by partition number
    copiers: dict[int, Copier] = field(default_factory=dict)  # of what goes by blocks, the same
    same: set[int] = field(default_factory=set)  # what goes by files, and does not differ

    def spans(self, place: Place) -> tuple[Span, Span]:
        """A place on the source, and on the destination."""
        return Span(self.source, place.source), Span(self.destination, place.destination)

    def target(self, extent: Extent) -> contextlib.AbstractContextManager[str]:
        """A loop device over a part of the destination, to be written."""
        return loop_over(self.ledger, Span(self.destination, extent), writable=True)

    def discard(self, device: str) -> None:
        """Give back all but the first sector, which mke2fs would give back too; where that is not
        possible, nothing is lost.  An image file that has all of its room keeps it."""
        if self.destination.reserved:
            return
        run("blkdiscard", "--force", "--step", "1GiB", "--offset", "4096", device, ok=(0, 1))


def wipe(device: str) -> None:
    """Erase every signature, so that nothing old is ever found beside the new; until there is
    something new, the first sector says so."""
    overwrite_start(device, SECTOR)
    run("wipefs", "--all", "--quiet", device)


def said(done: Transfer) -> str:
    """A few words on what was transferred."""
    words = [] if done.files is None else [count_text(done.files, "file")]
    words.append(f"{size_text(done.transferred)} transferred")
    words += [f"{done.deleted:,} deleted"] if done.deleted else []
    return ", ".join(words)
