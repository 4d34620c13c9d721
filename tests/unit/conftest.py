# SPDX-License-Identifier: GPL-2.0-only
"""The unit tier: no disks, no privileges, and no child process by accident."""

from __future__ import annotations

import pytest

from bsync import run


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "spawns: the test is about child processes, and may")


@pytest.fixture(autouse=True)
def no_child_processes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway refuses, unless the test says `spawns`."""
    if request.node.get_closest_marker("spawns"):
        return

    def refuse(argv: tuple[str, ...], *_: object) -> None:
        raise AssertionError(f"a unit test ran {argv}")

    monkeypatch.setattr(run, "_spawn", refuse)
