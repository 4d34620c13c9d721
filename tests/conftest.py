"""For all tiers: a lab, repeatable property tests, and no silent skipping in CI."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from lab import Lab

settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
settings.load_profile("repeatable")

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


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a skipped test is a failed one."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    if os.environ.get("CI") and skipped and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
