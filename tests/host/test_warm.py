# SPDX-License-Identifier: GPL-2.0-only
"""The control of the warm start: a run that does not end is ended, and the next one begins."""

from __future__ import annotations

import pytest
from lab import Lab, warm


def test_a_run_that_takes_too_long_is_ended(lab: Lab) -> None:
    with pytest.raises(TimeoutError, match="no end within 0 seconds"):
        warm().run(["bsync", "--help"], lab.environment, limit=0)
    assert "bsync" in lab.bsync("--help").out
