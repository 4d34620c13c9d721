# SPDX-License-Identifier: GPL-2.0-only
"""A target or a daemon that goes away while bytes are on their way."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from lab import MIB, Lab, Run
from loopback_target import Target, serving
from midcopy import Copy, as_it_goes, daemons, material, struck

# Which engine copies, and what of it the fault meets.
READING = (
    pytest.param("rsync", marks=pytest.mark.engine("files")),
    pytest.param("blocks", marks=pytest.mark.engine("blocks")),
)
WRITING = (*READING, pytest.param("flush", marks=pytest.mark.engine("files")))
LITTLE, MUCH = 96 * MIB, 256 * MIB  # by blocks, or only read from a LUN, it arrives that fast
AWAY = 3  # seconds for which a target is down
FAULTS = str(Path(__file__).with_name("faults.py"))


def unstruck(lab: Lab, way: str, data: int = LITTLE) -> Copy:
    """A copy of an image to another, one of which is to be a LUN."""
    if way == "rsync":
        as_it_goes(lab)
    source = material(lab, MUCH if way == "blocks" else data)
    return Copy(source, lab.image("lun.img", source.size))


def assert_failed(lab: Lab, run: Run, copy: Copy) -> None:
    """It said so in a line and a hint, the destination says so, and nothing is left."""
    assert run.status == 5, run.out + run.err
    lines = run.err.splitlines()
    assert len(lines) == 2, run.err
    assert lines[0].startswith("bsync: ")
    assert lines[1].startswith("       "), "no hint"
    lab.assert_all_goes()
    said = lab.bsync("inspect", copy.image).out
    assert "bsync-incomplete" in said or "an incomplete clone" in said


def assert_whole(lab: Lab, copy: Copy) -> None:
    """All that the source holds has arrived."""
    lab.bsync("verify", copy.material.image, copy.image)
    lab.assert_clean(copy.image)
    assert copy.material.arrived(copy.image) == 1


def completes(lab: Lab, copy: Copy, target: Target) -> None:
    """The next run makes it whole, unasked."""
    lab.bsync(copy.material.image, target.word)
    assert_whole(lab, copy)


@pytest.mark.parametrize("way", WRITING)
def test_a_target_that_restarts_between_bytes(lab: Lab, way: str) -> None:
    copy = unstruck(lab, way)
    with serving(copy.image) as target:

        def restart() -> None:
            time.sleep(AWAY)
            target.start()

        run = struck(lab, copy.to(target.word), target.kill, restart)
        if run.status == 0:
            lab.assert_all_goes()
            assert_whole(lab, copy)
        else:
            assert_failed(lab, run, copy)
            completes(lab, copy, target)


@pytest.mark.parametrize("way", WRITING)
def test_a_daemon_that_dies_between_bytes(lab: Lab, way: str) -> None:
    copy = unstruck(lab, way)
    with serving(copy.image) as target:

        def kill() -> None:
            (daemon,) = daemons(lab)
            os.kill(daemon, signal.SIGKILL)

        assert_failed(lab, struck(lab, copy.to(target.word), kill), copy)
        completes(lab, copy, target)


@pytest.mark.parametrize("way", WRITING)
def test_a_target_that_never_returns(lab: Lab, way: str) -> None:
    """The run ends by itself, here after five seconds without an answer."""
    copy = unstruck(lab, way)
    with serving(copy.image) as target:
        launcher = (FAULTS, "patience", "5", "KILL")
        run = struck(lab, copy.to(target.word, launcher), target.kill)
        assert_failed(lab, run, copy)
        assert "no answer for 5 seconds" in run.err
        target.start()
        completes(lab, copy, target)


@pytest.mark.engine("blocks")
def test_how_long_a_target_is_waited_for(lab: Lab) -> None:
    """A minute, unless the test says something else."""
    copy = unstruck(lab, "blocks")
    with serving(copy.image) as target:
        run = struck(lab, copy.to(target.word), target.kill)
        assert_failed(lab, run, copy)
        assert "no answer for 60 seconds" in run.err


# --- a source that goes away ----------------------------------------------------------------


@pytest.mark.parametrize("way", READING)
def test_a_source_that_restarts_between_bytes(lab: Lab, way: str) -> None:
    copy = unstruck(lab, way, MUCH)
    with serving(copy.material.image) as target:

        def restart() -> None:
            time.sleep(AWAY)
            target.start()

        run = struck(lab, copy.of(target.word), target.kill, restart)
        if run.status == 0:
            lab.assert_all_goes()
        else:
            assert_failed(lab, run, copy)
            lab.bsync(target.word, copy.image)
    assert_whole(lab, copy)


@pytest.mark.parametrize("way", READING)
@pytest.mark.parametrize("gone", ["daemon", "target"])
def test_a_source_that_never_returns(lab: Lab, way: str, gone: str) -> None:
    """What could not be read is never taken for copied."""
    copy = unstruck(lab, way, MUCH)
    with serving(copy.material.image) as target:

        def kill() -> None:
            (daemon,) = daemons(lab)
            os.kill(daemon, signal.SIGKILL)

        fault = kill if gone == "daemon" else target.kill
        launcher = (FAULTS, "patience", "5", "KILL")
        assert_failed(lab, struck(lab, copy.of(target.word, launcher), fault), copy)
    lab.bsync(copy.material.image, copy.image)
    assert_whole(lab, copy)
