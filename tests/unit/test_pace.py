# SPDX-License-Identifier: GPL-2.0-only
"""A limit to how fast a run copies."""

from __future__ import annotations

import pytest

from bsync import pace
from bsync.blockio import pump
from bsync.blockio.memory import Buffer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which only tests move on."""
    now = [100.0]
    monkeypatch.setattr("bsync.pace.time.monotonic", lambda: now[0])
    return now


def test_what_comes_too_early_waits(clock: list[float]) -> None:
    with pace.limited(1000):
        assert pace.rate() == 1000
        assert pace.delay(500) == 0, "the first may go at once"
        assert pace.delay(1000) == 0.5
        clock[0] += 1
        assert pace.delay(1) == 0.5
        clock[0] += 60
        assert pace.delay(1) == 0, "what was not used is not saved up"
        assert pace.delay(1) == pytest.approx(0.001)
    assert pace.rate() == 0
    assert pace.delay(1 << 40) == 0


def test_all_that_is_copied_by_blocks_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    counts: list[int] = []

    def delay(count: int) -> float:
        counts.append(count)
        return 0.0

    monkeypatch.setattr(pace, "delay", delay)

    def work(_run: pump.Run, here: Buffer, _there: Buffer) -> int:
        return len(here)

    assert pump.run_all([(0, 10), (5000, 3000)], work, 4096) == sum(counts) == 3010 * 4096
