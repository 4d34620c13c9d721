# SPDX-License-Identifier: GPL-2.0-only
"""For the tests that run in the guest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import long_bytes
import pytest
from rig import Rig

long_bytes.install()


@pytest.fixture
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    """A rig whose test leaves the machine as it found it; its runs clone as the mark `engine`
    says."""
    chosen = request.node.get_closest_marker("engine")
    made = Rig(tmp_path, chosen.args[0] if chosen else "")
    yield made
    made.assert_nothing_left()
