# SPDX-License-Identifier: GPL-2.0-only
"""Events made visible: on a terminal, as plain lines, or as JSON lines (`jsonlines`).

Output that cannot be written (a closed pipe, a full disk) never ends a run.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from typing import Protocol

from bsync.deferred import listening
from bsync.errors import BsyncError, Stopped, machine_troubles
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
from bsync.plan.steps import Copying
from bsync.say import RED, say, say_error
from bsync.screen.painter import Painter
from bsync.screen.plans import destroyed_lines, plan_lines
from bsync.screen.progress import Progress
from bsync.trace import ALL, COMMANDS

_NARROWEST = 40  # columns; a plan is no narrower
_LEVELS = {
    Notice.PREPARING: Level.INFO,
    Notice.SNAPSHOT_FILLS: Level.WARNING,
    Notice.LEFT: Level.WARNING,
}
_SILENCE = 10.0  # seconds without a plain line after which progress gets one


class Reporter(Protocol):
    """Where a run's events go."""

    def emit(self, event: Event) -> None: ...

    def failed(self, error: BsyncError | Stopped) -> None: ...

    def close(self) -> None: ...


class PlainReporter:
    """Plain lines: for logs, cron, pipes and terminals that can do no more."""

    _alarm = ""  # the colour of what is destroyed

    def __init__(self) -> None:
        self._started = self._spoke = time.monotonic()
        self._progress = Progress(self._started)
        self._differences = 0

    def emit(self, event: Event) -> None:
        """Count, and say what is to be said."""
        self._follow(event)
        self._show(event)

    def _follow(self, event: Event) -> None:
        """Keep account of how far the run is."""
        now = time.monotonic()
        match event:
            case Planned(plan=plan):
                for index, step in enumerate(plan.steps):
                    if isinstance(step, Copying):
                        self._progress.expect(index, title(step), step.cost)
            case Comparing(parts=parts):
                for index, (text, total) in enumerate(parts):
                    self._progress.expect(index, text, total)
            case StepStarted(index=index, title=text):
                self._progress.start(index, text, now)
            case StepAdvanced(index=index, done=done):
                self._progress.advance(index, done, now)
            case StepEnded(index=index):
                self._progress.end(index)

    def _show(self, event: Event) -> None:
        match event:
            case StepStarted(title=text):
                self._say(f"{text} ...")
            case StepAdvanced():
                now = time.monotonic()
                if now - self._spoke > _SILENCE:
                    self._say(f"  {', '.join(self._progress.figures(now))}")
            case StepEnded(said=said):
                if said != "done":
                    self._say(f"  {said}")
            case _:
                self._tell(event)

    def _tell(self, event: Event) -> None:
        """What is said on every screen."""
        match event:
            case Planned(plan=plan):
                width = max(shutil.get_terminal_size().columns, _NARROWEST)
                self._say(*plan_lines(plan, width), marked=self._alarm)
                lines = destroyed_lines(plan, width)
                self._say(*lines, "", colour=self._alarm, level=Level.WARNING)
            case Noticed(notice=notice, text=text):
                self._say(text, level=level_of(notice))
            case Differed(text=text):
                self._differences += 1
                if self._differences <= _screenful():
                    self._say(text, level=Level.WARNING)
            case Finished(text=text):
                seconds = time.monotonic() - self._started
                self._say(f"done: {text}, {seconds:.1f} s", level=Level.NOTICE)

    def failed(self, error: BsyncError | Stopped) -> None:
        if (more := self._differences - _screenful()) > 0:
            self._say(f"... and {more:,} more (--json tells all)", level=Level.WARNING)
        if isinstance(error, BsyncError):
            say_error(error)

    def close(self) -> None:
        pass

    def _say(
        self, *lines: str, colour: str = "", marked: str = "", level: Level = Level.INFO
    ) -> None:
        self._spoke = time.monotonic()
        say(*lines, colour=colour, marked=marked, level=level)


def level_of(notice: Notice) -> Level:
    """How much a notice matters."""
    return _LEVELS.get(notice, Level.NOTICE)


def _screenful() -> int:
    """Lines of differences that leave room on a screen for what is to be done about them."""
    return max(shutil.get_terminal_size().lines - 4, 4)


class QuietReporter(PlainReporter):
    """Errors only."""

    def emit(self, event: Event) -> None:
        """It is no error."""


class TerminalReporter(PlainReporter):
    """Lines as well, but of steps only what they came to: what is going on moves below them."""

    def __init__(self) -> None:
        super().__init__()
        self._alarm = "" if os.environ.get("NO_COLOR") else RED
        self._painter: Painter | None = None
        self._title = ""

    def _show(self, event: Event) -> None:
        match event:
            case StepStarted(title=text):
                self._title = text
                self._painter = self._painter or Painter(sys.stderr, self._picture)
                self._painter.paint()
            case StepAdvanced():
                pass  # it is seen soon enough
            case StepEnded(said=said):
                self._say(self._title if said == "done" else f"{self._title}: {said}")
            case Comparing():
                pass
            case Finished():
                self.close()
                self._tell(event)
            case _:
                self._tell(event)

    def failed(self, error: BsyncError | Stopped) -> None:
        self.close()
        super().failed(error)

    def close(self) -> None:
        if self._painter is not None:
            self._painter.close()
            self._painter = None

    def _say(
        self, *lines: str, colour: str = "", marked: str = "", level: Level = Level.INFO
    ) -> None:
        with self._painter.above() if self._painter else contextlib.nullcontext():
            super()._say(*lines, colour=colour, marked=marked, level=level)

    def _picture(self, width: int, height: int) -> list[str]:
        plain = "utf" not in (sys.stderr.encoding or "").lower()
        return self._progress.lines(time.monotonic(), width, height, "#-" if plain else "█░")


def _can_move() -> bool:
    """Whether both streams are a terminal whose cursor moves, and nobody else writes there; a
    stream that was closed before the start is None."""
    if os.environ.get("TERM", "dumb") == "dumb":
        return False
    if os.environ.get(ALL) or os.environ.get(COMMANDS):
        return False
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def _reporter(as_json: bool, quiet: bool, words: tuple[str, ...]) -> Reporter:
    if as_json:
        return JsonReporter(*words)
    if quiet:
        return QuietReporter()
    return TerminalReporter() if _can_move() else PlainReporter()


@contextlib.contextmanager
def reporting(*words: str, as_json: bool, quiet: bool = False) -> Iterator[Reporter]:
    """The reporter that fits where the output goes; it hears how the run ends, by a signal too."""
    reporter = _reporter(as_json, quiet, words)
    try:
        with listening(), machine_troubles():
            yield reporter
    except (BsyncError, Stopped) as error:
        reporter.failed(error)
        error.said = True
        raise
    finally:
        reporter.close()
    if isinstance(reporter, JsonReporter):
        reporter.check()
