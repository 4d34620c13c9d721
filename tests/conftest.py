# SPDX-License-Identifier: GPL-2.0-only
"""For all tiers: a lab, repeatable property tests, and no silent skipping in CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import long_bytes
import pytest
from hypothesis import settings
from lab import Lab

if TYPE_CHECKING:
    from pluggy import Result  # Debian 12's has none

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")
long_bytes.install()

# What fails within seconds, and then what takes longest.
TIERS = ("unit", "plans", "vm", "boot", "fuzz", "host")

# A shell's job in the background, or under nohup, ignores these, and so would what tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """A lab whose test leaves nothing behind; its runs clone as the mark `engine` says."""
    if os.geteuid() != 0:
        pytest.skip("this tier needs root, to attach loop devices and to mount")
    chosen = request.node.get_closest_marker("engine")
    made = Lab(tmp_path, chosen.args[0] if chosen else "")
    yield made
    made.assert_nothing_left()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever is free takes the next, so the last ones have to be short."""
    items.sort(key=lambda item: TIERS.index(item.path.parent.name))


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_runtest_makereport() -> Generator[None, Result[pytest.TestReport], None]:
    outcome = yield
    no_skipping_in_ci(outcome.get_result())


@pytest.hookimpl(hookwrapper=True, tryfirst=True)
def pytest_make_collect_report() -> Generator[None, Result[pytest.CollectReport], None]:
    outcome = yield
    no_skipping_in_ci(outcome.get_result())


def no_skipping_in_ci(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI a skipped test is a failed one."""
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
