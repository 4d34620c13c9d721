# SPDX-License-Identifier: GPL-2.0-only
"""Events made visible: on a terminal, as plain lines, or as JSON lines.

Output that cannot be written (a closed pipe, a full disk) never ends a run.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Protocol

from bsync.deferred import listening
from bsync.errors import BsyncError, Stopped, machine_troubles
from bsync.events import (
    Event,
    Finished,
    Noticed,
    Planned,
    StepAdvanced,
    StepEnded,
    StepStarted,
)
from bsync.explain import plan_data, plan_text, title
from bsync.plan.steps import Copying, Plan
from bsync.say import say, say_error
from bsync.units import printable, size_text

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_BAR = 16  # columns of a bar
_FIGURES = _BAR + 39  # … and of the widest bytes, rate and time left beside it
_SILENCE = 10.0  # seconds without a plain line after which progress gets one


class Reporter(Protocol):
    """Where a run's events go."""

    def emit(self, event: Event) -> None: ...

    def failed(self, error: BsyncError | Stopped) -> None: ...

    def close(self) -> None: ...


class PlainReporter:
    """Plain lines: for logs, cron and pipes."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._spoke = self._started
        self._total = 0

    def emit(self, event: Event) -> None:
        match event:
            case Planned(plan=plan):
                self._say(*plan_text(plan).split("\n"), "")
            case StepStarted(title=text, total=total):
                self._total = total
                self._say(f"{text} ...")
            case StepAdvanced(done=done):
                if time.monotonic() - self._spoke > _SILENCE:
                    self._say(f"  {size_text(done)} of {size_text(self._total)}")
            case StepEnded(said=said):
                if said != "done":
                    self._say(f"  {said}")
            case Noticed(text=text):
                self._say(text)
            case Finished(text=text):
                self._say(f"done: {text}, {time.monotonic() - self._started:.1f} s")

    def failed(self, error: BsyncError | Stopped) -> None:
        if isinstance(error, BsyncError):
            say_error(error)

    def close(self) -> None:
        pass

    def _say(self, *lines: str) -> None:
        self._spoke = time.monotonic()
        say(*lines)


class QuietReporter(PlainReporter):
    """Errors only."""

    def emit(self, event: Event) -> None:
        """It is no error."""


class TerminalReporter(PlainReporter):
    """The plan as text, then a line that moves for each partition to be copied."""

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._tasks: dict[int, TaskID] = {}
        self._plan: Plan | None = None

    def emit(self, event: Event) -> None:
        match event:
            case Planned(plan=plan):
                self._plan = plan
                super().emit(event)
            case StepStarted(index=index, title=text):
                self._show()
                self._begin(index, text)
            case StepAdvanced(index=index, done=done) if self._progress and index in self._tasks:
                self._progress.update(self._tasks[index], completed=done)
            case StepEnded(index=index, said=said) if self._progress and index in self._tasks:
                self._end(index, said)
            case StepEnded() | StepAdvanced():
                pass
            case _:
                self.close()
                super().emit(event)

    def failed(self, error: BsyncError | Stopped) -> None:
        self.close()
        super().failed(error)

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _show(self) -> None:
        """All that is to be copied, in view from the first step on."""
        if self._progress is not None or self._plan is None:
            return
        self._progress = _progress()
        for index, step in enumerate(self._plan.steps):
            if isinstance(step, Copying):
                self._tasks[index] = self._progress.add_task(
                    _short(printable(title(step)), self._progress.console.width - _FIGURES),
                    total=step.cost, start=False,
                )  # fmt: skip
        self._progress.start()

    def _begin(self, index: int, text: str) -> None:
        assert self._progress is not None
        self._progress.console.print(f"{printable(text)} ...", markup=False, highlight=False)
        if index in self._tasks:
            self._progress.start_task(self._tasks[index])

    def _end(self, index: int, said: str) -> None:
        assert self._progress is not None
        task = self._tasks[index]
        total = self._progress.tasks[task].total
        self._progress.update(task, completed=total)
        self._progress.stop_task(task)
        self._progress.console.print(f"  {printable(said)}", markup=False, highlight=False)


def _short(text: str, width: int) -> str:
    width = max(width, 20)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _progress() -> Progress:
    """Bytes, rate and time left of every copy."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=_BAR),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


class JsonReporter:
    """One JSON object a line, on standard output, for programs."""

    def emit(self, event: Event) -> None:
        match event:
            case Planned(plan=plan):
                self._line("planned", plan_data(plan))
            case _:
                self._line(_name(event), asdict(event))

    def failed(self, error: BsyncError | Stopped) -> None:
        data: dict[str, object] = {"status": int(error.status)}
        if isinstance(error, BsyncError):
            data |= {"message": error.message, "hint": error.hint}
        self._line("failed", data)

    def close(self) -> None:
        pass

    def _line(self, name: str, data: dict[str, object]) -> None:
        say(json.dumps({"event": name, **data}))


def _name(event: Event) -> str:
    """`StepStarted` → `step-started`."""
    words = "".join(f"-{c.lower()}" if c.isupper() else c for c in type(event).__name__)
    return words.removeprefix("-")


def _on_a_terminal() -> bool:
    """A stream that was closed before the start is None."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdout, sys.stderr))


def _reporter(as_json: bool, quiet: bool) -> Reporter:
    if as_json:
        return JsonReporter()
    if quiet:
        return QuietReporter()
    return TerminalReporter() if _on_a_terminal() else PlainReporter()


@contextlib.contextmanager
def reporting(*, as_json: bool, quiet: bool = False) -> Iterator[Reporter]:
    """The reporter that fits where the output goes; it hears how the run ends, by a signal too."""
    reporter = _reporter(as_json, quiet)
    try:
        with listening(), machine_troubles():
            yield reporter
    except (BsyncError, Stopped) as error:
        reporter.failed(error)
        error.said = True
        raise
    finally:
        reporter.close()
