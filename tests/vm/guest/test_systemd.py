# SPDX-License-Identifier: GPL-2.0-only
"""The units under a systemd: what they promise, with all that they forbid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import targets
import units
from lab import MIB, call
from rig import Rig, footprint
from small_disks import BARE_SIZE, bare
from targets import Chap, Lun, TgtTarget, served
from units import Systemd, booted

ERROR, NOTICE, INFO = 3, 5, 6  # syslog(3)
IN = Chap("guest", "correct-horse-1")


@pytest.fixture(scope="module")
def systemd() -> Iterator[Systemd]:
    with booted() as made:
        yield made


def test_a_killed_run_is_released_at_once_and_completed_by_the_next(
    rig: Rig, systemd: Systemd
) -> None:
    """With loop devices and mounts of both sides; all processes die, as when there is no memory."""
    source, target = bare(rig), rig.image("target.img", BARE_SIZE)
    lines = (f"SOURCE={source}", f"DESTINATION={target}", "OPTIONS=--engine files")
    launcher = "LAUNCHER=/src/tests/host/faults.py after-mounting 2 STOP"
    units.settings("server", *lines, launcher)
    systemd.inside("systemctl", "start", "--no-block", "bsync@server")
    stopped = ("pgrep", "--full", "--runstates=T", "faults.py")
    systemd.wait(lambda: bool(call(*stopped, ok=(0, 1))), "bsync@server")
    assert {str(source), str(target)} <= footprint()["loop"]
    units.settings("server", *lines)
    systemd.inside("systemctl", "kill", "--signal=KILL", "bsync@server")
    systemd.settle("bsync@server", "failed")
    rig.assert_nothing_left()
    assert call("e2label", target) == "bsync-incomplete\n"

    assert systemd.start("bsync@server"), systemd.story("bsync@server")
    assert call("e2label", target) == "data\n"
    assert call("debugfs", "-R", "cat /deep/er/file", target) == "deep"
    (said,) = systemd.journal("bsync@server", NOTICE)
    assert said.startswith("done: ")
    told = systemd.journal("bsync@server", INFO)
    assert told[0].startswith("source: ")
    assert all(told)


def test_a_job_has_its_password_from_systemd(rig: Rig, systemd: Systemd) -> None:
    """And fails without, as a whole."""
    source, lun = bare(rig), rig.image("lun.img", 16 * MIB)
    targets.start_initiator()
    with served(TgtTarget([Lun(lun)], chap=IN)) as target:
        (units.SETTINGS / "jobs.toml").write_text(
            f"[job.lun]\nsource = '{source}'\ndestination = '{target.url(user=IN.user)}'\n"
        )
        assert not systemd.start("bsync@lun")
        assert systemd.shown("bsync@lun", "ExecMainStatus") == "4"
        wrong = systemd.journal("bsync@lun", ERROR)
        assert ["needs a password" in line for line in wrong] == [True], systemd.story("bsync@lun")

        systemd.encrypt("bsync.destination-password", f"{IN.password}\n")
        assert systemd.start("bsync@lun"), systemd.story("bsync@lun")
        assert systemd.journal("bsync@lun", ERROR) == wrong
    assert call("e2label", lun) == "data\n"


def test_it_is_run_every_night(systemd: Systemd) -> None:
    systemd.inside("systemctl", "enable", "--now", "bsync@server.timer", "bsync-recover.service")
    assert systemd.shown("bsync@server.timer", "ActiveState") == "active"
    assert systemd.shown("bsync@server.timer", "Unit") == "bsync@server.service"
    assert systemd.shown("bsync@server.timer", "NextElapseUSecRealtime")
    assert systemd.shown("bsync-recover.service", "Result") == "success"
