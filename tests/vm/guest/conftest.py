# SPDX-License-Identifier: GPL-2.0-only
"""For the tests that run in the guest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rig import Rig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A rig whose test leaves the machine as it found it."""
    made = Rig(tmp_path)
    yield made
    made.assert_nothing_left()
