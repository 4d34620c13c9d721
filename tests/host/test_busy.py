# SPDX-License-Identifier: GPL-2.0-only
"""A side that something else uses: an exit status of its own, and `--wait`."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab
from small_disks import BARE_SIZE, bare


@contextlib.contextmanager
def locked(image: Path) -> Iterator[int]:
    """The image in somebody else's hands; the descriptor that holds it."""
    descriptor = os.open(image, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("side", ["source", "target"])
@pytest.mark.parametrize("command", ["clone", "plan", "verify"])
def test_a_run_waits_for_what_is_busy(lab: Lab, command: str, side: str) -> None:
    images = {"source": bare(lab), "target": lab.image("target.img", BARE_SIZE)}
    if command == "verify":
        lab.bsync(*images.values())
    with locked(images[side]) as descriptor:
        child = lab.start(command, "--wait", "600", *images.values())
        assert child.stdout is not None
        line = child.stdout.readline()
        assert f"{images[side]} is locked by another program: waiting 600 s at most" in line
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        _, err = child.communicate()
    assert (child.returncode, err) == (0, "")


def test_inspect_waits(lab: Lab) -> None:
    source = bare(lab)
    with locked(source) as descriptor:
        child = lab.start("inspect", "--wait", "600", source)
        assert child.stdout is not None
        assert "waiting" in child.stdout.readline()
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        out, _ = child.communicate()
    assert child.returncode == 0
    assert "ext" in out


def test_what_stays_busy_ends_the_run_after_the_time_that_was_given(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with locked(target):
        run = lab.bsync("--wait", "1", source, target, status=8)
    assert run.out.count("waiting") == 1
    assert f"{target} is locked by another program" in run.err


def test_what_is_wrong_is_not_waited_for(lab: Lab) -> None:
    source = bare(lab)
    lab.bsync("--wait", "600", source, source, status=3)
    lab.bsync("--wait", "600", source, lab.folder / "none", status=4)


def test_a_run_that_waits_holds_nothing(lab: Lab) -> None:
    """Two that wait for each other's devices would else wait for ever."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with locked(target):
        child = lab.start("--wait", "600", source, target)
        assert child.stdout is not None
        assert "waiting" in child.stdout.readline()
        lab.bsync("--wait", "600", "--yes", bare(lab, name="other.img"), source)
        child.send_signal(signal.SIGTERM)
        child.communicate()
    assert child.returncode == 143
    assert not lab.left()


# --- the rate -----------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["blocks", "files", "raw"])
def test_a_slow_copy_can_be_interrupted(lab: Lab, engine: str) -> None:
    """At a kilobyte a second it would take hours."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    child = lab.start("--bwlimit", "1K", "--engine", engine, source, target)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("whole device: copy") and line.endswith("...\n"):
            break
    child.send_signal(signal.SIGTERM)
    child.communicate()
    assert child.returncode == 143
    lab.bsync("--bwlimit", "1G", "--engine", engine, "--yes", source, target)
    lab.bsync("verify", source, target)


def test_rsync_is_told_the_rate(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    run = lab.bsync("--bwlimit", "10M", "-v", "--engine", "files", source, target)
    (copy,) = [line for line in run.err.splitlines() if "--info=progress2" in line]
    assert copy.startswith("+ ")
    assert " --bwlimit=10240 " in copy
