# SPDX-License-Identifier: GPL-2.0-only
"""Processes known by a tag on their command line, and ended without trusting a process id.

A process id may be another process's by the time it is used.  A descriptor of a process
(pidfd_open(2)) cannot: it is opened first, then the command line is read, and signals go
through it.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Iterator
from pathlib import Path


class Process:
    """A running process, by a descriptor."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor

    def send(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, number)

    def end(self, grace: float) -> bool:
        """Ask it to end, make it end after `grace` seconds; whether it has ended."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.send(number)
            if self._ends(grace):
                return True
        return False

    def _ends(self, seconds: float) -> bool:
        """Whether it ends within `seconds`: its descriptor is then readable."""
        poll = select.poll()
        poll.register(self._descriptor, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def tagged(tag: str) -> Iterator[Process]:
    """The processes with a word of their command line that ends with `tag`, one at a time."""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile, or is not ours to see
            descriptor = os.pidfd_open(int(folder.name))
            try:
                if _bears(folder, f"={tag}"):
                    yield Process(int(folder.name), descriptor)
            finally:
                os.close(descriptor)


def _bears(folder: Path, ending: str) -> bool:
    words = (folder / "cmdline").read_bytes().split(b"\0")
    return any(word.endswith(ending.encode()) for word in words)
