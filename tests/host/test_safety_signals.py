# SPDX-License-Identifier: GPL-2.0-only
"""Ctrl-C and its kin at every point of a run: everything is released at once, the status says
which signal it was, and the destination is not taken for a mirror."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from aftermath import Case, assert_not_mistaken, blank, changed_mirror
from lab import STAYING, Lab, Run, digest, wait_until
from small_disks import bare, copied, disk

pytestmark = pytest.mark.engine("files")

STATUS = {"INT": 130, "TERM": 143, "HUP": 129}
NEVER = 400


def interrupt(lab: Lab, case: Case, point: str, count: int, name: str) -> Run:
    """Send a run one signal; what must hold if it stopped for it.  A new target each time."""
    target = lab.folder / "target.img"
    target.unlink(missing_ok=True)
    copied(case.before, target.name)
    run = lab.faulty(point, count, name, *case.words, case.source, target)
    lab.assert_nothing_left()
    assert not lab.left(), f"{name} at {point} {count}: {lab.left()}"
    if run.status != 0:
        where = f"{name} at {point} {count}"
        assert run.status == STATUS[name], (where, run)
        first, *others = run.err.splitlines()
        assert first.endswith("; everything released"), (where, run.err)
        assert others in ([], ["       the clone is incomplete: the same command completes it"])
        if digest(target) != digest(case.before):
            assert_not_mistaken(lab, case, target)
    return run


def sweep(lab: Lab, case: Case, point: str, name: str, counts: Iterable[int]) -> int:
    """Interrupt a run at every point, until it comes to its end.  How many were."""
    interrupted = 0
    for count in counts:
        if interrupt(lab, case, point, count, name).status == 0:
            break
        interrupted += 1
    lab.bsync(*case.words, case.source, lab.folder / "target.img")
    lab.bsync("verify", case.source, lab.folder / "target.img")
    return interrupted


def test_interrupted_after_every_line_of_the_ledger(lab: Lab) -> None:
    case = blank(lab, bare(lab))
    assert sweep(lab, case, "after-line", "INT", range(1, NEVER)) >= 20


@pytest.mark.parametrize("point", ["before-unmounting", "before-detaching"])
def test_interrupted_while_something_is_being_released(lab: Lab, point: str) -> None:
    assert sweep(lab, blank(lab, bare(lab)), point, "INT", range(1, NEVER)) >= 2


@pytest.mark.parametrize("point", ["after-mounting", "after-attaching"])
def test_interrupted_as_soon_as_something_is_acquired(lab: Lab, point: str) -> None:
    assert sweep(lab, blank(lab, bare(lab)), point, "INT", range(1, NEVER)) >= 2


def test_interrupted_as_the_ledger_is_closed(lab: Lab) -> None:
    case = blank(lab, bare(lab))
    assert interrupt(lab, case, "before-closing", 1, "INT").status == STATUS["INT"]


@pytest.mark.parametrize("name", ["TERM", "HUP"])
def test_ended_between_the_steps(lab: Lab, name: str) -> None:
    case = changed_mirror(lab, disk(lab))
    assert sweep(lab, case, "after-step", name, range(1, NEVER, 2)) >= 3


@pytest.mark.parametrize("name", ["INT", "TERM", "HUP"])
def test_ended_while_rsync_is_at_work(lab: Lab, name: str) -> None:
    case = blank(lab, disk(lab, files=80))
    assert interrupt(lab, case, "in-copy", 10, name).status == STATUS[name]


def test_interrupted_just_as_a_long_child_starts(lab: Lab) -> None:
    """The child is there before anybody holds it; it must not keep a mount busy."""
    case = blank(lab, bare(lab))
    lab.stand_in("rsync", STAYING, when="progress2")
    assert interrupt(lab, case, "starting:rsync", 1, "INT").status == STATUS["INT"]


def test_a_child_that_does_not_want_to_end_is_ended(lab: Lab) -> None:
    case = blank(lab, bare(lab))
    lab.stand_in("rsync", "trap '' TERM INT HUP; while :; do sleep 1; done", when="progress2")
    assert interrupt(lab, case, "started:rsync", 1, "TERM").status == STATUS["TERM"]


def test_impatience_does_not_hinder_the_release(lab: Lab) -> None:
    """Ctrl-C again and again: the first one counts."""
    source = disk(lab)
    for number in (signal.SIGINT, signal.SIGTERM):
        target = lab.image(f"target-{number}.img", source.stat().st_size)
        hold = lab.folder / f"running-{number}"
        lab.stand_in("rsync", f"touch {hold}; {STAYING}", when="progress2")
        child = lab.start(source, target)
        wait_until(hold.exists, lambda: "rsync was never started")
        while child.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(number)
        child.communicate()
        assert child.returncode == 128 + number
        assert not lab.left(), lab.left()


def test_a_signal_during_inspection_changes_nothing(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 12 << 20)
    before = digest(target)
    for words in (("plan", source, target), ("inspect", source)):
        run = lab.faulty("started:blkid", 1, "TERM", *words)
        assert run.status == STATUS["TERM"], run
    assert digest(target) == before


def test_nohup_means_what_it_says(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 12 << 20)
    ignored = "signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    driver = str(Path(__file__).with_name("faults.py"))
    launcher = ("-c", f"import os, signal, sys; {ignored}; os.execv(sys.executable, sys.argv[1:])",
                sys.executable, driver, "after-step", "1", "HUP")  # fmt: skip
    child = lab.start(source, target, launcher=launcher)
    _, err = child.communicate()
    assert child.returncode == 0, err
    lab.bsync("verify", source, target)


def test_an_image_that_was_being_created_is_gone(lab: Lab) -> None:
    """Until the first write it has no name."""
    source, target = bare(lab), Path(lab.folder / "new.img")
    run = lab.faulty("after-line", 2, "INT", "--create", "16M", source, target)
    assert run.status == STATUS["INT"]
    assert not target.exists()
