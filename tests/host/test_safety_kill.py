# SPDX-License-Identifier: GPL-2.0-only
"""kill -9 at every point of a run: nothing of it remains, and its destination is not taken
for a mirror until it is one."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from aftermath import Case, aftermath, blank, changed_mirror
from lab import STAYING, Lab, call, digest, wait_until
from small_disks import DISK_SIZE, bare, copied, disk

pytestmark = pytest.mark.engine("files")

KILLED = -9
NEVER = 400  # more points than any of these runs has


def sweep(lab: Lab, case: Case, point: str, counts: Iterable[int] = range(1, NEVER)) -> int:
    """Kill a run the first, second, … time it comes to `point`, until it comes to its end.

    Returns how many were killed.
    """
    kept = digest(case.source), case.source.stat().st_mtime_ns
    killed = 0
    for count in counts:
        target = copied(case.before, "target.img")
        run = lab.faulty(point, count, "KILL", *case.words, case.source, target)
        if run.status == 0:
            target.unlink()
            break
        assert run.status == KILLED, (point, count, run)
        try:
            aftermath(lab, case, target)
        except AssertionError as error:
            raise AssertionError(f"killed at {point} {count}: {error}\n{run.out}") from error
        assert kept == (digest(case.source), case.source.stat().st_mtime_ns)
        target.unlink()
        killed += 1
    return killed


# --- a bare filesystem: every point --------------------------------------------------------


@pytest.mark.parametrize("point", ["before-line", "after-line"])
def test_killed_at_every_line_of_the_ledger_of_a_first_clone(lab: Lab, point: str) -> None:
    assert sweep(lab, blank(lab, bare(lab)), point) >= 20


def test_killed_after_every_line_of_the_ledger_of_a_synchronisation(lab: Lab) -> None:
    assert sweep(lab, changed_mirror(lab, bare(lab)), "after-line") >= 20


def test_killed_in_the_middle_of_a_line_of_the_ledger(lab: Lab) -> None:
    assert sweep(lab, blank(lab, bare(lab)), "torn-line", range(1, NEVER, 5)) >= 4


def test_a_long_child_dies_with_its_parent(lab: Lab) -> None:
    case = blank(lab, bare(lab))
    target = copied(case.before, "target.img")
    rsync = lab.stand_in("rsync", f"touch {lab.folder}/started; {STAYING}", when="progress2")

    child = lab.start(case.source, target)
    wait_until((lab.folder / "started").exists, lambda: "rsync was never started")
    child.kill()
    child.communicate()
    lab.assert_all_goes(but="ledger")
    rsync.unlink()
    aftermath(lab, case, target)


def test_killed_before_a_child_knows_whose_child_it_is(lab: Lab) -> None:
    """A child that asks to die with its parent may ask too late: then it ends by itself."""
    case = blank(lab, bare(lab))
    target = copied(case.before, "target.img")
    lab.stand_in("setpriv", "sleep 1", when="progress2")
    rsync = lab.stand_in("rsync", STAYING, when="progress2")

    assert lab.faulty("started:rsync", 1, "KILL", case.source, target).status == KILLED
    lab.assert_all_goes(but="ledger")
    rsync.unlink()
    aftermath(lab, case, target)


# --- a disk of several partitions ----------------------------------------------------------


def test_killed_between_the_steps_of_a_first_clone(lab: Lab) -> None:
    assert sweep(lab, blank(lab, disk(lab)), "after-step") >= 8


def test_killed_between_the_steps_of_a_synchronisation(lab: Lab) -> None:
    assert sweep(lab, changed_mirror(lab, disk(lab)), "after-step") >= 7


def test_killed_between_the_steps_where_there_is_no_boot_code_to_tell(lab: Lab) -> None:
    assert sweep(lab, blank(lab, disk(lab, boot=False)), "after-step", range(1, NEVER, 2)) >= 4


def test_killed_before_every_program_that_changes_the_destination(lab: Lab) -> None:
    """Between wiping and making, between making and marking, between the calls of tune2fs."""
    assert sweep(lab, blank(lab, disk(lab)), "before-child") >= 10


def test_killed_before_every_write_of_its_own(lab: Lab) -> None:
    """The records of the table, the boot code, the gap."""
    assert sweep(lab, blank(lab, disk(lab)), "before-write") >= 4


def test_killed_at_some_lines_of_the_ledger_of_a_disk(lab: Lab) -> None:
    assert sweep(lab, blank(lab, disk(lab)), "after-line", range(1, NEVER, 6)) >= 6


@pytest.mark.parametrize("count", [3, 20, 60])
def test_killed_while_rsync_is_at_work(lab: Lab, count: int) -> None:
    assert sweep(lab, blank(lab, disk(lab, files=80)), "in-copy", [count]) == 1


def test_killed_while_rsync_synchronises(lab: Lab) -> None:
    assert sweep(lab, changed_mirror(lab, disk(lab, files=80)), "in-copy", [3]) == 1


def test_killed_while_it_only_compares(lab: Lab) -> None:
    """A verification holds loop devices and mounts too, and changes neither side."""
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    lab.bsync(source, target)
    before = digest(source), digest(target)
    for count in (3, 8, 13, 20):
        assert lab.faulty("after-line", count, "KILL", "verify", source, target).status == KILLED
        lab.bsync("recover")
        lab.assert_all_goes()
        assert (digest(source), digest(target)) == before
    lab.bsync("verify", source, target)


def cut_off_and_damaged(lab: Lab, kind: str, damage: str, state: int) -> tuple[Path, Path]:
    """A clone by files of which its disk has lost something; `state` is what it says of itself."""
    source = bare(lab, kind=kind)
    target = copied(blank(lab, source).before, "target.img")
    assert lab.faulty("after-step", 2, "KILL", source, target).status == KILLED
    lab.bsync("recover")
    for request in (damage, f"ssv state {state}"):
        call("debugfs", "-w", "-R", request, target)
    call("e2fsck", "-f", "-n", target, ok=(4,))
    return source, target


@pytest.mark.parametrize("state", [0, 1], ids=["unclean", "clean"])
@pytest.mark.parametrize("kind", ["ext2", "ext4"])
def test_a_clone_that_was_cut_off_is_mended_without_asking(lab: Lab, kind: str, state: int) -> None:
    """A disk that lost its power and its cache may say "clean", and hold half a directory."""
    source, target = cut_off_and_damaged(lab, kind, "clri /deep/er", state)
    call("e2fsck", "-f", "-p", copied(target, "other.img"), ok=(4,))
    if state == 1:  # until the kernel meets the damage, and notes it
        assert "the same command completes it" in lab.bsync(source, target, status=5).err
    lab.bsync(source, target)
    lab.bsync("verify", source, target)
    lab.assert_clean(target)


@pytest.mark.parametrize("state", [0, 1], ids=["unclean", "clean"])
def test_contents_that_are_lost_are_copied_or_told(lab: Lab, state: int) -> None:
    """What says that it is clean is compared by size and time: nothing is mended in it then."""
    source, target = cut_off_and_damaged(lab, "ext2", "sif /file-001 block[0] 0", state)
    if state == 0:
        lab.bsync(source, target)
        lab.bsync("verify", source, target)
    else:
        assert "damaged" in lab.bsync(source, target, status=5).err
        assert "bsync-incomplete" in lab.bsync("inspect", target).out
