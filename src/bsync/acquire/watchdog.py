# SPDX-License-Identifier: GPL-2.0-only
"""Notices storage that has stopped answering, and ends what waits for it.

A target that is gone blocks every read and write of the kernel's for ever, and with them the
run; a daemon in that state does not even answer SIGTERM.  So a sector of the export is read
now and then, past all caches; if that is not answered in time, the daemon is killed, and all
that waited fails with EIO.  A single request may wait for ever, too, while others are answered
(QEMU's NBD server hangs up where it cannot read, its client comes back and asks again): so the
kernel's count of requests over the export is looked at as well.  Once a signal has asked the run to
end, seconds are enough.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from bsync.deferred import asked_to_end

PATIENCE = 60.0  # seconds without an answer; a target may restart in less
_PERIOD = 3.0  # seconds between questions
_GLANCE = 1.0  # seconds between two looks
_HASTE = 5.0  # seconds of patience with a run that has been asked to end
_GRACE = 5.0  # seconds for the last answer at the end


class Watchdog:
    """Reads `path`, and calls `kill` if there is no answer for `patience` seconds, if any."""

    def __init__(self, path: str, patience: float | None, kill: Callable[[], None]) -> None:
        self.verdict = ""  # why it killed, once it has
        self._path = path
        self._patience = patience
        self._kill = kill
        self._over = threading.Event()
        self._requests: _Requests | None = None

    def watch(self, loop: str) -> None:
        """Watch the requests of a loop device over `path`, too."""
        self._requests = _Requests(Path(f"/sys/block/{Path(loop).name}/stat"))

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
            thread.join()

    def _watch(self, patience: float) -> None:
        question, late = _Question(self._path), False
        while not self._over.wait(_GLANCE):
            if question.age > _PERIOD and question.wait() == 0:
                question = _Question(self._path)
            limit = min(patience, _HASTE) if asked_to_end() else patience
            verdict = self._found(question, limit)
            # Twice, for a run that was stopped itself (SIGSTOP) while it waited.
            if verdict and late:
                self.verdict = verdict
                break
            late = bool(verdict)
        if self.verdict or not question.answered.wait(_GRACE):
            self._kill()
            question.answered.wait(_GRACE)

    def _found(self, question: _Question, limit: float) -> str:
        """What has not been answered for more than `limit` seconds."""
        if question.wait() > limit:
            return f"no answer for {limit:.0f} seconds, given up"
        if not question.wait() and self._requests and self._requests.wait() > limit:
            return (
                f"a request was not answered for {limit:.0f} seconds though others are, given up: "
                "perhaps there is a sector that cannot be read"
            )
        return ""


class _Question:
    """A sector, read by a thread of its own: nothing else may wait for it."""

    def __init__(self, path: str) -> None:
        self.answered = threading.Event()
        self._path = path
        self._asked = time.monotonic()
        threading.Thread(target=self._ask, daemon=True).start()

    @property
    def age(self) -> float:
        """Seconds since it was asked."""
        return time.monotonic() - self._asked

    def wait(self) -> float:
        """Seconds for which it has waited for its answer; 0 once it has one."""
        return 0 if self.answered.is_set() else self.age

    def _ask(self) -> None:
        """An error is an answer too: whoever reads or writes gets it as well."""
        try:
            with contextlib.suppress(OSError):
                _read_past_caches(self._path)
        finally:
            self.answered.set()


class _Requests:
    """The requests of a block device, by its `stat` in sysfs (Documentation/block/stat.rst)."""

    def __init__(self, stat: Path) -> None:
        self._stat = stat
        self._answered = -1
        self._since = 0.0

    def wait(self) -> float:
        """Seconds for which there have been requests, and none was answered, as far as can be
        told; 0 while there are none."""
        try:
            counts = [int(word) for word in self._stat.read_text().split()]
        except OSError:
            return 0
        answered = counts[0] + counts[4] + sum(counts[11:12]) + sum(counts[15:16])
        if answered != self._answered or not counts[8]:
            self._answered, self._since = answered, time.monotonic()
        return time.monotonic() - self._since


def _read_past_caches(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC)
    try:
        with mmap.mmap(-1, mmap.PAGESIZE) as page:  # aligned, as O_DIRECT wants it
            os.preadv(descriptor, [page], 0)
    finally:
        os.close(descriptor)
