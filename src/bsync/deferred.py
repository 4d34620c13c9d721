# SPDX-License-Identifier: GPL-2.0-only
"""Moments that no signal may cut in two: something is there, and nobody holds it yet."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from bsync.errors import Stopped

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # those that end a run
_came, _written = socket.socketpair(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """A signal that ends a run does so by an exception meanwhile: something may be held.

    Not before all modules are there, nor when all is over: imports and the interpreter's end
    would make another exception of it, or none.
    """
    # nohup(1) means what it says
    heard = {n: now for n in SIGNALS if (now := signal.getsignal(n)) is not signal.SIG_IGN}
    for number in heard:
        signal.signal(number, _stop)
    # Python writes a byte there, whichever thread a signal comes to.
    signal.set_wakeup_fd(_written.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in heard.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    """End the run once; what is being released meanwhile is not to be interrupted again."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)


def asked_to_end() -> bool:
    """Whether a signal has asked the run to end.

    Also while the main thread, which alone can act on it, waits for storage: the signal is
    then pending (ShdPnd of proc_pid_status(5)), or another thread took it and Python wrote it down.
    """
    with contextlib.suppress(BlockingIOError):
        return bool(_came.recv(1, socket.MSG_PEEK))
    status = Path("/proc/self/status").read_text()
    pending = int(status.partition("ShdPnd:")[2].split()[0], 16)
    return any(pending >> (number - 1) & 1 for number in SIGNALS)


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Signals that come during the block are handled at its end.

    Blocking them would not do: a thread that does not block them would take them for us.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals never come to another thread
        return
    came: list[int] = []

    def keep(number: int, _frame: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, keep) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)
