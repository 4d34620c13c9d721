# SPDX-License-Identifier: GPL-2.0-only
"""What bsync asks and shows on a terminal, and what elsewhere."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from shutil import which

import pytest
from lab import Lab, digest
from small_disks import BARE_SIZE, DISK_SIZE, bare, disk
from terminal import on_terminal

COMPLETES = "the clone is incomplete: the same command completes it"
PROMPT = "Type yes to go on: "


@pytest.fixture
def pair(lab: Lab) -> tuple[Path, Path]:
    """A source, and a destination that holds something else."""
    return bare(lab), bare(lab, name="target.img")


@pytest.mark.parametrize("answer", ["no\n", "y\n", "\n", "yes please\n", "\x04"])
def test_anything_but_yes_destroys_nothing(lab: Lab, pair: tuple[Path, Path], answer: str) -> None:
    before = digest(pair[1])
    with on_terminal(lab, *pair) as terminal:
        terminal.read_until_shown(PROMPT)
        assert "This will destroy:" in terminal.shown
        assert str(pair[1]) in terminal.shown
        terminal.type(answer)
        assert terminal.end() == 3
        assert "not confirmed: nothing was written" in terminal.shown
    assert digest(pair[1]) == before


@pytest.mark.parametrize("plain", ["", "1"], ids=["in colour", "without"])
def test_what_is_destroyed_is_red(lab: Lab, plain: str) -> None:
    """In the bar of the disk as it is, and in the list."""
    source, target = disk(lab), bare(lab, name="target.img")
    os.truncate(target, DISK_SIZE)
    lab.environment["NO_COLOR"] = plain
    with on_terminal(lab, source, target) as terminal:
        terminal.read_until_shown(PROMPT)
        found = re.search(r'before (\S*\[ext4 "data"[^\r\n]*)', terminal.raw)
        assert found
        red = re.fullmatch(r"\x1b\[31m\[[^]]*\]\x1b\[0m", found[1]) is not None
        assert ("\x1b[31m\r\nThis will destroy:" in terminal.raw) == red == (plain == "")


@pytest.mark.parametrize("answer", ["yes\n", "YES\n"])
def test_yes_goes_on(lab: Lab, pair: tuple[Path, Path], answer: str) -> None:
    with on_terminal(lab, *pair) as terminal:
        terminal.read_until_shown(PROMPT)
        terminal.type(answer)
        assert terminal.end() == 0, terminal.shown
    lab.bsync("verify", *pair)


def test_ctrl_c_at_the_question_destroys_nothing(lab: Lab, pair: tuple[Path, Path]) -> None:
    before = digest(pair[1])
    with on_terminal(lab, *pair) as terminal:
        terminal.read_until_shown(PROMPT)
        assert terminal.interrupt() == 130, terminal.shown
    assert digest(pair[1]) == before


def test_nothing_is_asked_where_nothing_is_destroyed(lab: Lab) -> None:
    """A blank destination, and a mirror."""
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    for _ in range(2):
        with on_terminal(lab, source, target) as terminal:
            assert terminal.end() == 0, terminal.shown
            assert PROMPT not in terminal.shown


def test_yes_beforehand_is_not_asked_again(lab: Lab, pair: tuple[Path, Path]) -> None:
    with on_terminal(lab, "--yes", *pair) as terminal:
        assert terminal.end() == 0, terminal.shown
        assert PROMPT not in terminal.shown


def test_a_plan_asks_nothing(lab: Lab, pair: tuple[Path, Path]) -> None:
    for words in (("plan",), ("--dry-run",)):
        with on_terminal(lab, *words, *pair) as terminal:
            assert terminal.end() == 0, terminal.shown
            assert PROMPT not in terminal.shown


def test_a_question_needs_both_ends_on_a_terminal(lab: Lab, pair: tuple[Path, Path]) -> None:
    """Whoever does not see the plan cannot agree to it."""
    before = digest(pair[1])
    run = lab.bsync(*pair, status=3, stdin="yes\n")
    assert "--yes answers the question" in run.err
    assert digest(pair[1]) == before


# --- progress ------------------------------------------------------------------------------


@pytest.mark.engine("files")
def test_progress_shows_every_partition_bytes_rate_and_time_left(lab: Lab) -> None:
    source, target = disk(lab, files=80), lab.image("target.img", DISK_SIZE)
    lab.stand_in("rsync", f'exec {rsync(lab)} --bwlimit=2000 "$@"', when="progress2")
    with on_terminal(lab, source, target) as terminal:
        assert terminal.end() == 0, terminal.shown
        shown = terminal.shown
    moving = shown[shown.index("partition 1: make ext2") :].replace("\r", "")
    for number in (1, 5):  # both in view while the first is copied
        assert re.search(rf"partition {number}: copy all files +[█░]+ ", moving), shown
    assert re.search(TOTAL, moving, re.MULTILINE), shown
    assert "89 files" not in moving
    assert "81 files" in moving
    assert "done: 162 files" in moving


TOTAL = (
    r"^total [0-9]+%, [0-9.]+ [KM]iB of [0-9.]+ [KM]iB, [0-9.]+ [KM]iB/s, [0-9]+:[0-9]{2} left, "
    r"[0-9]+:[0-9]{2} elapsed$"
)


@pytest.mark.engine("files")
@pytest.mark.parametrize(("columns", "lines"), [(40, 24), (69, 40), (80, 4), (80, 24)])
def test_progress_fits_every_screen(lab: Lab, columns: int, lines: int) -> None:
    source, target = disk(lab, files=40), lab.image("target.img", DISK_SIZE)
    lab.stand_in("rsync", f'exec {rsync(lab)} --bwlimit=2000 "$@"', when="progress2")
    with on_terminal(lab, source, target, columns=columns, lines=lines) as terminal:
        assert terminal.end() == 0, terminal.shown
        pictures = re.findall(r"((?:[^\r\n\x1b]*\x1b\[K\r\n)+)\x1b\[J", terminal.raw)
        assert len(pictures) > 10
        assert "\x1b[?25" not in terminal.raw, "the cursor is never hidden"
    for picture in pictures:
        painted = re.sub(r"^\[[0-9]+A", "", picture.replace("\x1b[K", "")).splitlines()
        assert max(map(len, painted)) < columns, painted
        assert len(painted) < lines, painted
        assert columns >= 70 or len(painted) == 1, painted


@pytest.mark.engine("files")
def test_a_run_that_was_stopped_goes_on_below(lab: Lab) -> None:
    """Ctrl-Z, and the shell's fg."""
    source, target = disk(lab, files=80), lab.image("target.img", DISK_SIZE)
    lab.stand_in("rsync", f'exec {rsync(lab)} --bwlimit=1000 "$@"', when="progress2")
    with on_terminal(lab, source, target) as terminal:
        terminal.read_until_shown("iB/s")
        os.kill(terminal.child.pid, signal.SIGSTOP)  # nobody else would wake it: it has no shell
        os.waitid(os.P_PID, terminal.child.pid, os.WSTOPPED)
        before = len(terminal.raw)
        os.kill(terminal.child.pid, signal.SIGCONT)
        assert terminal.end() == 0, terminal.shown
        assert terminal.raw[before:].count("\x1b[J") > 2
        assert "done: " in terminal.shown


@pytest.mark.engine("files")
def test_a_verification_moves_too(lab: Lab) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    lab.bsync(source, target)
    with on_terminal(lab, "verify", source, target) as terminal:
        assert terminal.end() == 0, terminal.shown
        assert re.search(r"partition 5: compare +[█░]+ ", terminal.shown), terminal.shown
        assert "partition 5: compare: identical" in terminal.shown


def test_ctrl_c_says_what_completes_the_clone(lab: Lab) -> None:
    """Once something is written, and not before."""
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    run = lab.faulty("after-step", 4, "INT", source, target)
    assert run.status == 130
    assert run.err.endswith(f"; everything released\n       {COMPLETES}\n"), run.err
    lab.bsync(source, target)
    lab.bsync("verify", source, target)
    assert COMPLETES not in lab.faulty("after-step", 4, "INT", source, target).err


def rsync(lab: Lab) -> str:
    """The real one, by its path."""
    path = which("rsync", path=lab.environment["PATH"].partition(":")[2])
    assert path is not None
    return path


def test_plain_lines_where_there_is_no_terminal(lab: Lab) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    run = lab.bsync(source, target)
    assert "\x1b" not in run.out
    assert "\r" not in run.out
    assert not run.err
    steps = began(run.out)
    assert steps[0] == "table: write the dos partition table ..."
    assert steps[-1] == "boot code: install the source's boot code ..."
    assert re.fullmatch(r"done: .* transferred, [0-9.]+ s", run.out.splitlines()[-1])


def test_what_is_looked_at_before_the_first_step_is_said(lab: Lab) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    lab.bsync(source, target)
    first, second, *steps = began(lab.bsync(source, target).out)
    assert first == "partition 1: look for what changed ..."
    assert second == "partition 5: look for what changed ..."
    assert not any("look" in step for step in steps)
    files = began(lab.bsync(source, lab.image("other.img", DISK_SIZE), "--engine", "files").out)
    assert files[0] == "partition 1: look through the source's files ..."


def began(output: str) -> list[str]:
    """The lines that say what begins."""
    return [line for line in output.splitlines() if line.endswith(" ...")]


# --- output that goes nowhere ----------------------------------------------------------------


@pytest.mark.parametrize("where", ["| head -n 1", ">/dev/full", ">&-", ">&- 2>&-", "<&-"])
def test_output_that_cannot_be_written_does_not_end_a_run(lab: Lab, where: str) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    status = lab.folder / "status"
    run = lab.within(f"{{{{ {{python}} -m bsync {source} {target}; echo $? >{status}; }}}} {where}")
    assert status.read_text() == "0\n", run
    assert "Error" not in run.err, run
    assert "Exception" not in run.err, run
    lab.bsync("verify", source, target)


def test_a_device_never_gets_the_number_of_a_standard_stream(lab: Lab) -> None:
    """What is written to a stream that was closed must not end up on a disk."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.stand_in("blkid", f"readlink /proc/$PPID/fd/[0-2] >{lab.folder}/streams", when="--probe")
    run = lab.within(f"{{python}} -m bsync {source} {target} <&- >&- 2>&-")
    assert run.status == 0
    assert (lab.folder / "streams").read_text().split() == ["/dev/null"] * 3


def test_a_failure_is_a_failure_where_nobody_hears_of_it(lab: Lab) -> None:
    target = lab.image("target.img", BARE_SIZE)
    run = lab.within(f"{{python}} -m bsync {lab.folder}/x {target} >&- 2>&-")
    assert run.status == 4
