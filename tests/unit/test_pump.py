# SPDX-License-Identifier: GPL-2.0-only
"""The threads of a copy: whatever ends it, none of them goes on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest

from bsync.blockio import pump
from bsync.blockio.memory import Buffer


class Ended(BaseException):
    """What a signal raises."""


@pytest.fixture
def interruptible() -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise Ended

    before = signal.signal(signal.SIGTERM, end)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("interruptible")
def test_a_signal_while_a_thread_starts_waits_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that nobody waits for would still be there when Python ends."""
    started: list[threading.Thread] = []
    start = threading.Thread.start

    def interrupted(thread: threading.Thread) -> None:
        started.append(thread)
        signal.raise_signal(signal.SIGTERM)
        start(thread)

    def work(*_: Any) -> int:
        return 0

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(Ended):
        pump.run_all(iter([(0, 1)] * 100), work, 4096)
    assert len(started) == pump.WORKERS
    assert not any(thread.is_alive() for thread in started)


def test_a_run_that_is_longer_than_a_buffer_is_done_to_its_end() -> None:
    done: list[pump.Run] = []

    def work(run: pump.Run, here: Buffer, there: Buffer) -> int:
        assert len(here) == len(there) == run[1] * 1024
        done.append(run)
        return run[1]

    longest = pump.PIECE // 1024
    assert pump.run_all([(7, 2 * longest + 1), (99_999, 3)], work, 1024) == 2 * longest + 4
    assert sorted(done) == [
        (7, longest), (7 + longest, longest), (7 + 2 * longest, 1), (99_999, 3),
    ]  # fmt: skip


def test_the_first_failure_ends_all() -> None:
    done: list[pump.Run] = []

    def work(run: pump.Run, *_: Any) -> int:
        if run[0] == 5:
            raise ValueError("broken")
        done.append(run)
        return 1

    before = threading.active_count()
    with pytest.raises(ValueError, match="broken"):
        pump.run_all(((number, 1) for number in range(1_000_000)), work, 4096)
    assert len(done) < 1_000_000
    assert threading.active_count() == before
