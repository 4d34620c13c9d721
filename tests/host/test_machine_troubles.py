# SPDX-License-Identifier: GPL-2.0-only
"""What the machine lacks, or was made to lack, is said by its name, and is no defect of ours."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab import MIB, PATIENCE, Lab, Run
from small_disks import bare

BSYNC = f"{sys.executable} -m bsync"


def after(lab: Lab, before: str, *words: str | Path) -> Run:
    """A run of bsync in a shell, and a mount namespace, in which `before` has happened."""
    return lab.within(f"{before}\nexec {BSYNC} {' '.join(map(str, words))}")


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_a_parent_that_ignores_its_children(lab: Lab, engine: str) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    lab.stand_in("wipefs", "exit 1", when="--all")
    run = after(lab, "trap '' CHLD", source, target, "--engine", engine)
    assert run.status == 5, run
    assert "wipefs failed with status 1" in run.err


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_a_signal_while_it_starts(lab: Lab, name: str) -> None:
    number = signal.Signals[f"SIG{name}"]
    for step in range(12):
        child = lab.start("inspect", Path("/nowhere"))
        time.sleep(step * 0.02)
        child.send_signal(number)
        out, err = child.communicate(timeout=30)
        # Before our first lines, what they import included, Python's own answer to Ctrl-C is a
        # traceback.
        ours = re.search(r'/bsync/\w+\.py", line \d+, in <module>\n    (?!import )', err)
        early = name == "INT" and "Traceback" in err and not ours
        assert early or "Traceback" not in out + err, (step, err)
        assert early or child.returncode in (-number, 128 + number, 4), (step, child, err)


_BLOCKED = """
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for number in (signal.SIGPIPE, signal.SIGALRM, signal.SIGUSR1):
    signal.signal(number, signal.SIG_IGN)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_a_parent_that_blocks_every_signal(lab: Lab) -> None:
    """Then nothing could end a run."""
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    driver = str(Path(__file__).with_name("faults.py"))
    launcher = ("-c", _BLOCKED, driver, "after-step", "1", "TERM")
    child = lab.start(source, target, launcher=launcher)
    _, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 143, err


@pytest.mark.parametrize("engine", ["blocks", "files"])
@pytest.mark.parametrize(
    "before",
    ["umask 777", "exec <&- >&- 2>&-", "mkdir gone; cd gone; rmdir ../gone", "export LC_ALL=C"],
)
def test_what_else_a_parent_may_leave_us(lab: Lab, before: str, engine: str) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    before = f"cd {lab.folder}; {before}"
    assert after(lab, before, source, target, "--engine", engine).status == 0
    lab.bsync("verify", source, target)


def test_a_signal_when_all_is_over(lab: Lab) -> None:
    """What is done stays done: no traceback, and no other end than that of the run."""
    ending = (
        "import atexit, os, signal; "
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGINT)); "
        "from bsync.__main__ import main; main()"
    )
    child = lab.start("inspect", bare(lab), launcher=("-c", ending))
    _, err = child.communicate(timeout=PATIENCE)
    assert (child.returncode, err) == (0, "")


def test_no_room_in_tmp(lab: Lab) -> None:
    image = bare(lab)
    folder = lab.folder / "tmp"
    folder.mkdir()
    full = f"mount -t tmpfs -o size=4k none {folder}; head -c 9999 /dev/zero >{folder}/x"
    run = after(lab, f"{full}; export TMPDIR={folder}", "inspect", image)
    assert run.status == 0, run


def test_no_room_for_the_ledger(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    lab.runtime.mkdir()
    full = f"mount -t tmpfs -o size=8k none {lab.runtime}; head -c 9999 /dev/zero >{lab.runtime}/x"
    run = after(lab, full, source, target)
    assert run.status in (4, 5), run
    assert f"{lab.runtime}/" in run.err
    assert "no space left" in run.err


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ("-n 12", "open files"),
        ("-f 2000", "ulimit -f"),
        ("-v 200000", "ulimit -v"),
        ("-v 600000", ""),
    ],
)
def test_a_limit_of_the_shell(lab: Lab, limit: str, said: str) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    run = after(lab, f"ulimit {limit}", source, target, "--engine", "files")
    assert run.status in ((4, 5) if said else (0,)), run
    assert said in run.err


def test_too_little_address_space_for_blocks_is_said_before_writing(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    run = after(lab, "ulimit -v 600000", source, target)
    assert run.status == 4, run
    assert "address space" in run.err
    assert not target.read_bytes().strip(b"\0")


_FEW_THREADS = """
import sys, threading
from bsync.__main__ import main
left, start = [4], threading.Thread.start
def limited(thread):
    left[0] -= 1
    if left[0] < 0:
        raise RuntimeError("can't start new thread")
    start(thread)
threading.Thread.start = limited
sys.exit(main())
"""


def test_too_few_threads_for_blocks_are_said_before_writing(lab: Lab) -> None:
    """Root's are only limited by a container's host, so that Python stands in for it."""
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    child = lab.start(source, target, launcher=("-c", _FEW_THREADS))
    _, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 4, err
    assert "no more processes or threads can be started" in err
    assert not target.read_bytes().strip(b"\0")


def test_nowhere_to_write_to(lab: Lab) -> None:
    image = bare(lab)
    command = f"{BSYNC} inspect {image} >/dev/full 2>/dev/full"
    result = subprocess.run(["sh", "-c", command], env=lab.environment, check=False)
    assert result.returncode == 0
