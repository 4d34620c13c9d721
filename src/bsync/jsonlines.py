# SPDX-License-Identifier: GPL-2.0-only
"""`--json`: a run as JSON lines, a contract that docs/json.md tells of.

A line that cannot be written ends no run; but a run of which a line is missing does not end well.
"""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime

from bsync.errors import BsyncError, Stopped, Untold
from bsync.events import Event, Finished, Planned
from bsync.explain import plan_data, side_data
from bsync.model.layout import Side

SCHEMA = 1  # grows when what was there means something else, or is gone


@functools.cache
def run_id() -> str:
    """What all lines of this run have in common."""
    return os.urandom(6).hex()


class JsonReporter:
    """One JSON object a line, on standard output, for programs."""

    def __init__(self, *words: str) -> None:
        self._began = time.monotonic()
        self._words = words
        self._lost = ""

    def emit(self, event: Event) -> None:
        """An event of the run."""
        data = plan_data(event.plan) if isinstance(event, Planned) else asdict(event)
        if isinstance(event, Finished):
            data |= self._summary()
        self._line(_name(event), data)

    def inspected(self, side: Side) -> None:
        """What `bsync inspect` found."""
        self._line("inspected", side_data(side) | self._summary())

    def failed(self, error: BsyncError | Stopped) -> None:
        """The run is over, and it is not well."""
        data: dict[str, object] = {"status": int(error.status), "error": error.status.word}
        data |= {"message": error.message, "hint": error.hint}
        self._line("failed", data | self._summary())

    def close(self) -> None:
        """Nothing is held."""

    def check(self) -> None:
        """Raise `Untold` where a line got lost."""
        if self._lost:
            raise Untold(f"standard output cannot be written: {self._lost}", "is the disk full?")

    def _summary(self) -> dict[str, object]:
        seconds = round(time.monotonic() - self._began, 3)
        return {"seconds": seconds, "names": list(self._words)}

    def _line(self, name: str, data: dict[str, object]) -> None:
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        head = {"event": name, "schema": SCHEMA, "run": run_id(), "time": now}
        try:
            if sys.stdout is None:
                raise OSError("it is closed")
            print(json.dumps(head | data), flush=True)
        except (OSError, ValueError) as error:
            self._lost = self._lost or getattr(error, "strerror", None) or type(error).__name__


def _name(event: Event) -> str:
    """`StepStarted` → `step-started`."""
    words = "".join(f"-{c.lower()}" if c.isupper() else c for c in type(event).__name__)
    return words.removeprefix("-")
