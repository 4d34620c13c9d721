# SPDX-License-Identifier: GPL-2.0-only
"""A target that goes away while bytes are on their way to it, through the kernel's initiator."""

from __future__ import annotations

import time

import pytest
import targets
from lab import MIB, Run
from midcopy import Copy, as_it_goes, material, struck
from rig import Rig, footprint
from targets import Lun, TgtTarget, served

WAYS = pytest.mark.parametrize(
    "way",
    [
        pytest.param("rsync", marks=pytest.mark.engine("files")),
        pytest.param("blocks", marks=pytest.mark.engine("blocks")),
    ],
)
AWAY = 3  # seconds for which a target is down


@pytest.fixture(autouse=True)
def initiator() -> None:
    targets.start_initiator()


def unstruck(rig: Rig, way: str) -> Copy:
    """A copy of an image to another, that is to be a LUN."""
    if way == "rsync":
        as_it_goes(rig)
    source = material(rig, 32 * MIB)
    return Copy(source, rig.image("lun.img", source.size))


def assert_failed(rig: Rig, run: Run, copy: Copy) -> None:
    """It said so in a line and a hint, the destination says so, and nothing is left."""
    assert run.status == 5, run.out + run.err
    lines = run.err.splitlines()
    assert len(lines) == 2, run.err
    assert "check the server" in lines[1]
    assert_logged_out(rig)
    said = rig.bsync("inspect", copy.image).out
    assert "bsync-incomplete" in said or "an incomplete clone" in said


def assert_logged_out(rig: Rig) -> None:
    found = footprint()
    assert not found["iSCSI session"]
    assert not found["iSCSI record"]
    assert not rig.left()


def assert_whole(rig: Rig, copy: Copy) -> None:
    """All that the source holds has arrived."""
    rig.bsync("verify", copy.material.image, copy.image)
    rig.assert_clean(copy.image)
    assert copy.material.arrived(copy.image) == 1


@WAYS
def test_a_target_that_restarts_between_bytes(rig: Rig, way: str) -> None:
    copy = unstruck(rig, way)
    target = TgtTarget([Lun(copy.image)])
    with served(target):

        def restart() -> None:
            time.sleep(AWAY)
            target.up()

        run = struck(rig, copy.to(target.url()), target.down, restart)
        if run.status == 0:
            assert_logged_out(rig)
        else:
            assert_failed(rig, run, copy)
            rig.bsync(copy.material.image, target.url())
    assert_whole(rig, copy)


@WAYS
def test_a_target_that_never_returns(rig: Rig, way: str) -> None:
    """The kernel gives up after a minute, and so does the run."""
    copy = unstruck(rig, way)
    target = TgtTarget([Lun(copy.image)])
    with served(target):
        assert_failed(rig, struck(rig, copy.to(target.url()), target.down), copy)
        target.up()
        rig.bsync(copy.material.image, target.url())
    assert_whole(rig, copy)
