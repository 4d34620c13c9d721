"""Notices storage that has stopped answering, and ends what waits for it.

A target that is gone blocks every read and write of the kernel's for ever, and with them the
run; a daemon in that state does not even answer SIGTERM.  So a sector of the export is read
now and then, past all caches; if that is not answered in time, the daemon is killed, and all
that waited fails with EIO.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections.abc import Callable, Iterator

PATIENCE = 60.0  # seconds without an answer; a target may restart in less
_PERIOD = 3.0  # seconds between questions
_MERCY = 1.0  # seconds more, for a run that was stopped itself (SIGSTOP) while it waited
_GRACE = 5.0  # seconds for the last answer at the end


class Watchdog:
    """Reads `path`, and calls `kill` if there is no answer for `patience` seconds, if any."""

    def __init__(self, path: str, patience: float | None, kill: Callable[[], None]) -> None:
        self.verdict = ""  # why it killed, once it has
        self._path = path
        self._patience = patience
        self._kill = kill
        self._over = threading.Event()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch during the block.  No reader of ours is left at its end: if the last question
        is still unanswered soon after it, there is no use in waiting."""
        if self._patience is None:
            yield
            return
        thread = threading.Thread(target=self._watch, args=(self._patience,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join(_GRACE)
            if thread.is_alive():
                self._kill()
                thread.join(_GRACE)

    def _watch(self, patience: float) -> None:
        while not self._over.wait(_PERIOD):
            answered = threading.Event()
            threading.Thread(target=self._ask, args=(answered,), daemon=True).start()
            if not answered.wait(patience) and not answered.wait(_MERCY):
                self.verdict = f"no answer for {patience:.0f} seconds, given up"
                self._kill()
                answered.wait(_GRACE)
                return

    def _ask(self, answered: threading.Event) -> None:
        """An error is an answer too: whoever reads or writes gets it as well."""
        try:
            with contextlib.suppress(OSError):
                _read_past_caches(self._path)
        finally:
            answered.set()


def _read_past_caches(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, mmap.PAGESIZE) as page:  # aligned, as O_DIRECT wants it
            os.preadv(descriptor, [page], 0)
    finally:
        os.close(descriptor)
