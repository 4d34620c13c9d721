# SPDX-License-Identifier: GPL-2.0-only
"""The command line, up to where the pipeline begins."""

from __future__ import annotations

import contextlib
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bsync import __main__ as program
from bsync import __version__, pipeline
from bsync.cli import main as commands
from bsync.errors import (
    CopyFailed,
    Different,
    InUse,
    Refused,
    Status,
    Stopped,
    Unavailable,
    Unreleased,
    Untold,
)
from bsync.events import Emit
from bsync.locate import parse
from bsync.model.layout import Blank, Side, bare
from bsync.pipeline import Confirm
from bsync.plan import Options, Plan
from bsync.request import Request
from bsync.units import Share

Capture = pytest.CaptureFixture[str]


class Calls:
    """The pipeline's place, taken by a list of calls."""

    def __init__(self) -> None:
        self.made: list[tuple[str, object]] = []
        self.error: BaseException | None = None
        self.answers: list[bool] = []

    def _note(self, name: str, value: object) -> None:
        self.made.append((name, value))
        if self.error:
            raise self.error

    def clone(self, request: Request, _emit: Emit, confirm: Confirm) -> None:
        side = Side("x", "image file", bare(1, 512, Blank()))
        self.answers.append(confirm(Plan(side, side, ())))
        self._note("clone", request)

    def plan(self, request: Request, _emit: Emit) -> None:
        self._note("plan", request)

    def check(self, request: Request, _emit: Emit) -> None:
        self._note("check", request)

    def inspect(self, request: Request, _emit: Emit) -> Side:
        self._note("inspect", str(request.source))
        return Side(str(request.source), "image file", bare(1024, 512, Blank()))

    def recover(self) -> list[str]:
        self._note("recover", None)
        return ["loop x"]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    made = Calls()
    monkeypatch.setenv("BSYNC_VERBOSE", "")  # --verbose sets it
    for name in ("clone", "plan", "check", "inspect", "recover"):
        monkeypatch.setattr(pipeline, name, getattr(made, name))
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            stack.callback(signal.signal, number, signal.getsignal(number))
        yield made


def bsync(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run the command; its exit status."""
    monkeypatch.setattr("sys.argv", ["bsync", *words])
    with pytest.raises(SystemExit) as ended:
        program.main()
    return int(ended.value.code or 0)


def asked(source: str, destination: str, options: Options, create: int = 0, **more: Any) -> Request:
    return Request(parse(source), parse(destination), options, create, **more)


@pytest.mark.parametrize(
    ("words", "name", "request_"),
    [
        ("a b", "clone", asked("a", "b", Options())),
        ("clone a b", "clone", asked("a", "b", Options())),
        ("./clone b", "clone", asked("./clone", "b", Options())),
        ("--yes a b", "clone", asked("a", "b", Options())),
        ("a b --yes", "clone", asked("a", "b", Options())),
        ("--json a b", "clone", asked("a", "b", Options())),
        ("a b --dry-run", "plan", asked("a", "b", Options())),
        ("-n a b", "plan", asked("a", "b", Options())),
        ("plan a b", "plan", asked("a", "b", Options())),
        ("a b --raw --checksum", "clone", asked("a", "b", Options("auto", True, True))),
        ("a b --engine raw", "clone", asked("a", "b", Options("raw"))),
        ("a b --create 1.5G", "clone", asked("a", "b", Options(), 3 << 29)),
        ("plan a b --create 10", "plan", asked("a", "b", Options(), 10)),
        ("verify a b", "check", asked("a", "b", Options())),
        ("verify --files a b", "check", asked("a", "b", Options(), trees=True)),
        ("a b --no-grow", "clone", asked("a", "b", Options(grow=False))),
        ("a b --wait 5 --bwlimit 1M", "clone",
         asked("a", "b", Options(), wait=5, rate=1 << 20)),
        ("a b -q --verbose", "clone", asked("a", "b", Options())),
        ("a b --snapshot-size 20%", "clone",
         asked("a", "b", Options(), snapshot_size=Share(percent=20))),
        ("verify a b --snapshot-size 2G -q", "check",
         asked("a", "b", Options(), snapshot_size=Share(2 << 30))),
        ("a b --source-password-file x --destination-password-file y", "clone",
         asked("a", "b", Options(), source_password_file="x", destination_password_file="y")),
        ("recover -q", "recover", None),
        ("verify --json a b", "check", asked("a", "b", Options())),
        ("inspect a", "inspect", "a"),
        ("inspect --json a", "inspect", "a"),
        ("recover", "recover", None),
        ("recover --json", "recover", None),
        ("-- -a -b", "clone", asked("-a", "-b", Options())),
        ("inpect.img b", "clone", asked("inpect.img", "b", Options())),
    ],
)  # fmt: skip
def test_words_that_make_sense(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, words: str, name: str, request_: object
) -> None:
    assert bsync(monkeypatch, *words.split()) == Status.DONE
    assert calls.made == [(name, request_)]


@pytest.mark.parametrize(
    "words",
    ["", "a", "a b c", "clone a", "plan a", "verify a", "inspect", "inspect a b", "recover a",
     "--nonsense a b", "a b --engine none", "a b --create x", "a b --create 0", "a b --create",
     "verify a b --yes", "plan a b --yes", "a b --wait x", "a b --wait -1",
     "a b --bwlimit 0", "a b --snapshot-size 0%", "inspect a -q", "help x", "help x y"],
)  # fmt: skip
def test_words_that_do_not(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: Capture, words: str
) -> None:
    assert bsync(monkeypatch, *words.split()) == Status.USAGE
    assert not calls.made
    err = capsys.readouterr().err
    assert err.startswith("bsync: ")
    assert len(err.splitlines()) <= 2
    assert all(len(line) < 200 for line in err.splitlines()), "not a line but a page"


@pytest.mark.parametrize(
    "word", ["--help", "-h", "clone --help", "recover -h", "help", "help clone", "help help"]
)
def test_help(calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: Capture, word: str) -> None:
    assert bsync(monkeypatch, *word.split()) == Status.DONE
    assert "Usage: bsync" in capsys.readouterr().out
    assert not calls.made


@pytest.mark.usefixtures("calls")
def test_the_main_form_comes_first(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    """With every option that it has."""
    bsync(monkeypatch, "--help")
    shown = capsys.readouterr().out
    assert shown.startswith("Usage: bsync SRC DEST [OPTIONS]\n")
    bsync(monkeypatch, "help")
    assert capsys.readouterr().out == shown
    options = [name for option in commands.commands["clone"].params for name in option.opts
               if name.startswith("-")]  # fmt: skip
    assert len(options) > 20
    main, _, rest = shown.partition("Other options:")
    assert [name for name in options if not re.search(rf"{name}\b", main)] == []
    assert all(f"  {name} " in rest for name in commands.commands)


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("inpect a", "did you mean bsync inspect?"),
        ("recovr", "did you mean bsync recover?"),
        ("verfy a b", "did you mean bsync verify?"),
        ("hlep", "did you mean bsync help?"),
        ("help verfy", "did you mean bsync help verify?"),
        ("a b --chekcsum", "did you mean --checksum? bsync --help"),
        ("verify a b --yes", "it is an option of bsync clone"),
        ("inspect a b", "bsync inspect --help"),
        ("verify a", "bsync verify --help"),
        ("a", "bsync --help"),
        ("clone a", "bsync --help"),
    ],
)
def test_what_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: Capture, calls: Calls, words: str, hint: str
) -> None:
    """And where a hint sends somebody to a help, that has the command's options."""
    assert bsync(monkeypatch, *words.split()) == Status.USAGE
    assert not calls.made
    said = capsys.readouterr().err.splitlines()[1]
    assert hint in said
    if match := re.search(r"bsync (?:(\w+) )?--help", said):
        bsync(monkeypatch, *match[0].split()[1:])
        shown = capsys.readouterr().out
        command = commands.commands[match[1] or "clone"]
        names = [option.opts[-1] for option in command.params if option.opts[0].startswith("-")]
        assert all(name in shown for name in names)


def test_a_device_may_be_called_nearly_like_a_command(
    monkeypatch: pytest.MonkeyPatch, calls: Calls, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("inpect").touch()
    assert bsync(monkeypatch, "inpect", "b") == Status.DONE
    assert calls.made[0][0] == "clone"


def test_version(monkeypatch: pytest.MonkeyPatch, calls: Calls, capsys: Capture) -> None:
    assert bsync(monkeypatch, "--version") == Status.DONE
    assert capsys.readouterr().out == f"bsync {__version__}\n"
    assert not calls.made


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("x"), 3),
        (Unavailable("x"), 4),
        (CopyFailed("x"), 5),
        (Different("x"), 6),
        (Unreleased("x"), 7),
        (InUse("x"), 8),
        (Untold("x"), 9),
        (Stopped(signal.SIGHUP), 129),
        (Stopped(signal.SIGINT), 130),
        (Stopped(signal.SIGTERM), 143),
        (ZeroDivisionError("x"), 70),
        (RecursionError("x"), 70),
        (OSError(5, "x"), 4),
        (MemoryError(), 4),
        (RuntimeError("can't start new thread"), 4),
        (ValueError("x"), 70),
    ],
)
@pytest.mark.parametrize("words", ["a b", "plan a b", "verify a b", "inspect a", "recover"])
def test_every_end_has_its_status_and_a_line(
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Capture,
    words: str,
    error: BaseException,
    status: int,
) -> None:
    monkeypatch.delenv("BSYNC_DEBUG", raising=False)
    calls.error = error
    assert bsync(monkeypatch, *words.split()) == status
    err = capsys.readouterr().err
    assert err.count("bsync: ") == (2 if "defect" in err else 1)
    assert "Traceback" not in err


def test_a_defect_shows_itself_on_demand(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BSYNC_DEBUG", "1")
    monkeypatch.setattr("sys.argv", ["bsync", "a", "b"])
    calls.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        program.main()


def test_a_signal_comes_once(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one ends the run; the second must not interrupt the release."""

    def signalled(_request: Request, _emit: Emit) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)
            calls.made.append(("released", None))

    monkeypatch.setattr(pipeline, "plan", signalled)
    assert bsync(monkeypatch, "plan", "a", "b") == Status.TERMINATED
    assert calls.made == [("released", None)]


# --- the one question ---------------------------------------------------------------------


class Stream:
    """Standard input or output, on a terminal or not."""

    encoding = "utf-8"

    def __init__(self, terminal: bool) -> None:
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [("yes", True), (" YES ", True), ("y", False), ("", False), ("no", False), ("yes!", False)],
)
def test_only_yes_is_yes(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, answer: str, meaning: bool
) -> None:
    monkeypatch.setattr("sys.stdin", Stream(True))
    monkeypatch.setattr("sys.stdout", Stream(True))
    monkeypatch.setattr("builtins.input", lambda _: answer)
    bsync(monkeypatch, "a", "b")
    assert calls.answers == [meaning]


@pytest.mark.parametrize("stdin", [Stream(False), None])
@pytest.mark.parametrize("stdout", [Stream(False), Stream(True), None])
def test_without_a_terminal_it_is_no(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, stdin: Stream | None, stdout: Stream | None
) -> None:
    monkeypatch.setattr("sys.stdin", stdin)
    monkeypatch.setattr("sys.stdout", stdout)
    assert bsync(monkeypatch, "a", "b") == Status.DONE
    assert calls.answers == [False]
    assert bsync(monkeypatch, "a", "b", "--yes") == Status.DONE
    assert calls.answers == [False, True]


def test_what_is_asked_quietly_was_not_shown_before(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr("sys.stdin", Stream(True))
    monkeypatch.setattr("builtins.input", lambda _: "yes")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    bsync(monkeypatch, "-q", "a", "b")
    assert "destination: x" in capsys.readouterr().out
    assert calls.answers == [True]


def test_the_end_of_input_is_no(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("sys.stdin", Stream(True))
    monkeypatch.setattr("sys.stdout", Stream(True))
    monkeypatch.setattr("builtins.input", ended)
    bsync(monkeypatch, "a", "b")
    assert calls.answers == [False]
