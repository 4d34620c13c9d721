"""The host tier: as root, on loop devices and real filesystems of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab whose test leaves nothing behind."""
    if os.geteuid() != 0:
        pytest.skip("the host tier needs root, to attach loop devices and to mount")
    made = Lab(tmp_path)
    yield made
    made.assert_nothing_left()
