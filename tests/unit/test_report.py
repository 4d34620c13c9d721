# SPDX-License-Identifier: GPL-2.0-only
"""Events made visible."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import builders
import pytest

from bsync import trace
from bsync.errors import BsyncError, Different, Refused, Stopped, Untold
from bsync.events import (
    Comparing,
    Differed,
    Event,
    Finished,
    Notice,
    Noticed,
    Planned,
    StepAdvanced,
    StepEnded,
    StepStarted,
)
from bsync.explain import title
from bsync.journal import Level
from bsync.jsonlines import JsonReporter
from bsync.plan import Options, make_plan
from bsync.plan.steps import Copying
from bsync.report import PlainReporter, Reporter, TerminalReporter, reporting
from bsync.say import say, say_error
from bsync.units import size_text

Capture = pytest.CaptureFixture[str]


def events() -> list[Event]:
    plan = make_plan(builders.bare(builders.ext()), builders.bare(), Options())
    return [
        Planned(plan),
        StepStarted(0, "partition 1: make ext4", 0),
        StepEnded(0, "done"),
        StepStarted(1, "partition 1: copy all files", 1000),
        StepAdvanced(1, 500),
        StepEnded(1, "5 files", 1000, 5, 0),
        StepStarted(2, "complete", 0),
        StepEnded(2, "done"),
        Noticed(Notice.PREPARING, "something \udcff\x1b[2J\nelse"),
        Finished("5 files, 1000 bytes transferred", 1000, 5, 0),
    ]


def through(reporter: Reporter) -> None:
    for event in events():
        reporter.emit(event)
    reporter.failed(Refused("not so", "do this"))
    reporter.failed(Stopped(signal.SIGTERM))
    reporter.close()
    reporter.close()


@pytest.mark.parametrize("make", [PlainReporter, TerminalReporter])
def test_lines_for_people(make: Callable[[], Reporter], capsys: Capture) -> None:
    through(make())
    out, err = capsys.readouterr()
    assert "This will destroy" not in out
    assert "partition 1: make ext4" in out + err
    assert "done: 5 files, 1000 bytes transferred" in out
    assert "something \\udcff\\x1b[2J\\nelse" in out
    assert "bsync: not so\n       do this\n" in err


@pytest.mark.parametrize("engine", ["files", "blocks", "raw"])
def test_every_copy_is_in_view(engine: str, capsys: Capture) -> None:
    """And moves, from the first step to its end."""
    plan = make_plan(builders.bare(builders.ext()), builders.bare(), Options(engine=engine))
    [(index, step)] = [(at, one) for at, one in enumerate(plan.steps) if isinstance(one, Copying)]
    reporter = TerminalReporter()
    reporter.emit(Planned(plan))
    reporter.emit(StepStarted(index, title(step), step.cost))
    reporter.emit(StepAdvanced(index, step.cost // 2))
    reporter.emit(Noticed(Notice.PREPARING, "something"))
    halves = f"{size_text(step.cost // 2)} of {size_text(step.cost)}"
    shown = capsys.readouterr().err
    assert any("██░░" in line and halves in line for line in shown.splitlines()), shown
    reporter.emit(StepEnded(index, "5 files, 7 MiB"))
    reporter.close()
    assert f"{title(step)}: 5 files, 7 MiB" in capsys.readouterr().out


def test_json_lines(capsys: Capture) -> None:
    through(JsonReporter())
    out, err = capsys.readouterr()
    assert not err
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["event"] for line in lines] == [
        "planned", "step-started", "step-ended", "step-started", "step-advanced", "step-ended",
        "step-started", "step-ended", "noticed", "finished", "failed", "failed",
    ]  # fmt: skip
    assert lines[0]["steps"]
    assert lines[0]["source"]["content"]["uuid"] == builders.UUID
    heads = [(line.pop("schema"), line.pop("run"), line.pop("time")) for line in lines]
    assert len({(schema, run) for schema, run, _ in heads}) == 1
    assert all(datetime.fromisoformat(time).tzinfo for _, _, time in heads)
    assert lines[4] == {"event": "step-advanced", "index": 1, "done": 500}
    assert lines[8]["text"] == "something \udcff\x1b[2J\nelse"
    assert lines[9]["transferred"] == 1000
    assert lines[9]["names"] == lines[10].pop("names") == []
    assert lines[9]["seconds"] <= lines[10].pop("seconds")
    assert lines[10] == {
        "event": "failed", "status": 3, "error": "refused", "message": "not so", "hint": "do this",
    }  # fmt: skip
    assert (lines[11]["status"], lines[11]["error"]) == (143, "terminated")


def test_progress_is_told_after_a_while_only(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("bsync.report.time.monotonic", lambda: now[0])
    reporter = PlainReporter()
    reporter.emit(Comparing((("compare", 2048),)))
    reporter.emit(StepStarted(0, "compare", 2048))
    capsys.readouterr()
    for second in range(1, 26):
        now[0] = float(second)
        reporter.emit(StepAdvanced(0, 1024))
    assert capsys.readouterr().out.splitlines() == [
        "  50%, 1 KiB of 2 KiB, 93 bytes/s, 0:11 left, 0:11 elapsed",
        "  50%, 1 KiB of 2 KiB, 0:22 elapsed",
    ]


def test_a_screenful_of_differences_and_a_count(capsys: Capture) -> None:
    reporter = PlainReporter()
    for number in range(1234):
        reporter.emit(Differed("partition 1", "is missing", f"file-{number}"))
    reporter.failed(Different("not a clone: 1,234 differences"))
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "partition 1: file-0 is missing"
    assert lines[-1] == f"... and {1234 - len(lines) + 1:,} more (--json tells all)"
    assert len(lines) + len(err.splitlines()) < 24


class Broken(io.StringIO):
    """A pipe whose reader is gone."""

    def write(self, _: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("make", [PlainReporter, JsonReporter])
@pytest.mark.parametrize("broken", [Broken, lambda: None])
def test_output_that_goes_nowhere_ends_no_run(
    make: Callable[[], Reporter],
    broken: Callable[[], io.StringIO | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", broken())
    monkeypatch.setattr(sys, "stderr", broken())
    reporter = make()
    through(reporter)
    if isinstance(reporter, JsonReporter):
        with pytest.raises(Untold):
            reporter.check()


def test_a_closed_pipe_ends_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w", encoding="ascii") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        through(JsonReporter())
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), writing)  # or closing would fail on what is left


def test_a_stream_closed_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    with reporting(as_json=False) as reporter:
        assert type(reporter) is PlainReporter


def test_an_encoding_that_knows_few_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    say("größer \udcff \u2028")
    assert raw.getvalue() == b"gr\\xf6\\xdfer \\udcff \\u2028\n"


def test_what_stands_in_a_line_does_not_break_it(capsys: Capture) -> None:
    say("one\n\ttwo\x1b[A\u202e", "", "three")
    assert capsys.readouterr().out == "one\\n\\ttwo\\x1b[A\\u202e\n\nthree\n"


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failure_is_told_once(capsys: Capture, as_json: bool) -> None:
    error = BsyncError("it failed")
    with pytest.raises(BsyncError), reporting(as_json=as_json):
        raise error
    assert error.said
    out, err = capsys.readouterr()
    assert (out + err).count("it failed") == 1


def test_an_error_is_two_lines_at_most(capsys: Capture) -> None:
    say_error(BsyncError("a\nb", "c\nd"))
    say_error(BsyncError("alone"))
    assert capsys.readouterr().err == "bsync: a b\n       c d\nbsync: alone\n"


def test_a_terminal_gets_what_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.delenv("BSYNC_DEBUG", raising=False)
    monkeypatch.setenv("TERM", "dumb")
    with reporting(as_json=False) as reporter:
        assert type(reporter) is PlainReporter
    monkeypatch.setenv("TERM", "xterm")
    with reporting(as_json=False) as reporter:
        assert isinstance(reporter, TerminalReporter)
    with reporting(as_json=True) as reporter:
        assert isinstance(reporter, JsonReporter)


class Journal:
    """A file in the place of both streams' socket to journald, and what comes to it."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._path = path
        self.stream = path.open("w")
        there = os.fstat(self.stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{there.st_dev}:{there.st_ino}")
        monkeypatch.setattr(sys, "stdout", self.stream)
        monkeypatch.setattr(sys, "stderr", self.stream)

    def lines(self, level: Level) -> list[str]:
        """Those of a level, but for blank ones: journald leaves these out."""
        mark, lines = f"<{level}>", self._path.read_text().splitlines()
        return [line.removeprefix(mark) for line in lines if line.startswith(mark) and line != mark]


def test_the_journal_hears_how_much_a_line_matters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "journal", monkeypatch)
    reporter = PlainReporter()
    through(reporter)
    plan = make_plan(builders.bare(builders.ext()), builders.bare(builders.xfs()), Options())
    reporter.emit(Planned(plan))
    for notice, text in ((Notice.LEFT, "it stays"), (Notice.RELEASED, "it goes")):
        reporter.emit(Noticed(notice, text))
    reporter.emit(Differed("partition 1", "is missing", "file"))
    monkeypatch.setenv("BSYNC_VERBOSE", "1")
    trace.started(["rsync", "--daemon"])

    assert journal.lines(Level.ERROR) == ["bsync: not so", "       do this"]
    destroyed, *_, stays, differs = journal.lines(Level.WARNING)
    assert (stays, differs) == ("it stays", "partition 1: file is missing")
    assert destroyed == "This will destroy:"
    done, goes = journal.lines(Level.NOTICE)
    assert (done[:13], goes) == ("done: 5 files", "it goes")
    assert "partition 1: make ext4 ..." in journal.lines(Level.INFO)
    assert "something \\udcff\\x1b[2J\\nelse" in journal.lines(Level.INFO)
    assert journal.lines(Level.DEBUG) == ["+ rsync --daemon  # goes on"]


def test_no_other_stream_has_levels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe or file that a service writes to instead, nor what programs read."""
    journal = Journal(tmp_path / "journal", monkeypatch)
    through(JsonReporter())
    with (tmp_path / "elsewhere").open("w+") as elsewhere:
        monkeypatch.setattr(sys, "stdout", elsewhere)
        through(PlainReporter())
        assert "<" not in (tmp_path / "elsewhere").read_text()
    assert journal.lines(Level.INFO) == journal.lines(Level.NOTICE) == []
