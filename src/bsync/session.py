# SPDX-License-Identifier: GPL-2.0-only
"""What belongs to the whole process while it works: its mounts, its ledger, what dead runs left.

(What signals do is settled before anything is imported, in `__main__`.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bsync import ledger as ledgers
from bsync import recovery
from bsync.acquire.mount import private_namespace
from bsync.errors import BsyncError, Stopped, Unreleased, nothing_written
from bsync.events import Emit, Notice, Noticed
from bsync.ledger import Ledger
from bsync.locate import DevicePath, LoopFile, LvmSnapshot
from bsync.request import Request

_inside: list[Request] = []


@contextlib.contextmanager
def entered(
    request: Request, emit: Emit, *, mounting: bool = False, recovering: bool = False
) -> Iterator[Ledger]:
    """The process's only session until the end of the block, and its ledger.

    `mounting`: with mounts of its own.  `recovering`: what dead runs left is released first.  A
    side that is a file or a device is looked at without a ledger: nothing is acquired.
    Raises `Unavailable`, and `Unreleased` if something stays that nothing worse was said of.
    """
    assert not _inside, "a process has one session"
    _inside.append(request)
    try:
        with nothing_written():
            if recovering:
                _release_orphans(request, emit)
            if mounting:
                private_namespace()
        traceless = all(isinstance(one, DevicePath | LoopFile) for one in request.locators)
        if traceless and not mounting:
            yield ledgers.unopened()
        else:
            with _ledger() as ledger:
                yield ledger
    finally:
        _inside.pop()


@contextlib.contextmanager
def _ledger() -> Iterator[Ledger]:
    """A ledger; whatever could not be released is said once nothing worse is being said."""
    with ledgers.opened() as ledger:
        try:
            yield ledger
        except (BsyncError, Stopped) as error:
            if ledger.failures:
                error.left_something()
            raise
    if ledger.failures:
        raise Unreleased("; ".join(ledger.failures), "bsync recover tries again")


def _release_orphans(request: Request, emit: Emit) -> None:
    volumes = any(isinstance(one, LvmSnapshot) for one in request.locators)
    released, failures = recovery.recover(volumes=volumes)
    for what in released:
        emit(Noticed(Notice.RELEASED, f"released what an earlier run left: {what}"))
    for failure in failures:
        text = f"an earlier run left something that cannot be released: {failure}"
        emit(Noticed(Notice.LEFT, text))
