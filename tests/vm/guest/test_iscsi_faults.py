# SPDX-License-Identifier: GPL-2.0-only
"""Through the kernel's initiator: a target that goes away while bytes are on their way to it, one
that is reached by two portals, and a disk that is wanted by others."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import targets
from lab import MIB, Run, digest
from midcopy import Copy, as_it_goes, material, struck
from rig import Rig, footprint
from small_disks import BARE_SIZE, bare
from targets import LioTarget, Lun, TgtTarget, served

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


# --- two portals --------------------------------------------------------------------------------


def portal(target: TgtTarget | LioTarget, host: int) -> str:
    """The locator of the only disk by another of the target's addresses."""
    return target.url().replace("0.0.0.0", f"127.0.0.{host}")


@pytest.mark.parametrize("kind", [TgtTarget, LioTarget])
def test_a_disk_is_the_same_by_two_portals(rig: Rig, kind: type[TgtTarget | LioTarget]) -> None:
    lun, other = bare(rig, name="lun.img"), bare(rig)
    before = digest(lun)
    with served(kind([Lun(lun)], address="0.0.0.0")) as target:
        said = rig.bsync("--yes", portal(target, 1), portal(target, 2), status=3).err
        assert "are the same storage" in said
        assert_logged_out(rig)
        with rig.logged_in(target) as disks:
            with rig.mounted_device(disks[target.number(0)], options="ro"):
                said = rig.bsync("--yes", other, portal(target, 2), status=8).err
                assert "is the same disk" in said
                assert "is mounted on" in said
            rig.bsync("verify", lun, portal(target, 2))
    assert digest(lun) == before


# --- a disk that others want --------------------------------------------------------------------


def test_nobody_gets_a_disk_that_is_about_to_go(rig: Rig) -> None:
    """An automounter that is quick has it before the logout, and then there is none."""
    source, lun, seen = bare(rig), rig.image("lun.img", BARE_SIZE), rig.folder / "mounted"
    mount = "mount $(ls -d /sys/class/iscsi_session/*/device/target*/*/block/* | sed s,.*/,/dev/,)"
    with served(TgtTarget([Lun(lun)])) as target:
        rig.stand_in("iscsiadm", f"{mount} /mnt && touch {seen}", when="--logout")
        rig.bsync(source, target.url())
        assert not seen.exists()


def test_a_disk_that_is_in_use_is_not_logged_out(rig: Rig) -> None:
    source, lun = bare(rig), rig.image("lun.img", BARE_SIZE)
    with served(TgtTarget([Lun(lun)])) as target:
        rig.faulty("after-step", 1, "KILL", source, target.url())
        (path,) = targets.session_disks(target.iqn).values()
        user = os.open(path, os.O_RDONLY | os.O_EXCL)
        try:
            assert f"{path} is in use" in rig.bsync("recover", status=7).err
            assert footprint()["iSCSI session"] == {target.iqn}
            assert Path(path).is_block_device()
        finally:
            os.close(user)
        rig.bsync("recover")
        assert_logged_out(rig)
