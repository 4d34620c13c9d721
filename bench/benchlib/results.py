# SPDX-License-Identifier: GPL-2.0-only
"""Measurements, their medians, and the files that keep them: one for each part of a benchmark."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchlib.changes import ChangeCounts
from benchlib.machine import Machine
from benchlib.memory import Memory


class Case(StrEnum):
    """What is measured."""

    FIRST = "first clone"
    CHANGED = "0.1 % changed"
    UNCHANGED = "nothing changed"


class Standing(StrEnum):
    """What a contender is in the comparison."""

    OURS = "ours"
    OTHER = "other"
    YARDSTICK = "yardstick"  # No clone comes out of it: it only shows what the disk can do.


@dataclass(frozen=True)
class Entry:
    """What the report says of a contender."""

    name: str
    standing: Standing
    note: str
    copies_all: bool  # It has no other way to do it again than as for the first time.


@dataclass(frozen=True)
class Measurement:
    """One timed run; `program_seconds` leaves out mounts, mkfs and the final flush."""

    contender: str
    case: Case
    round: int
    seconds: float
    program_seconds: float


@dataclass(frozen=True)
class Failure:
    """A contender that failed, or whose clone is not what it should be."""

    contender: str
    case: Case
    round: int
    reason: str


@dataclass(frozen=True)
class Setting:
    """The circumstances of all measurements with one source."""

    machine: Machine
    started: str
    rounds: int
    seed: int
    source: dict[str, int]
    used_bytes: int  # The source's blocks in use.
    changes: ChangeCounts
    cases: tuple[Case, ...]
    entries: tuple[Entry, ...]
    missing: dict[str, list[str]]
    skipped: tuple[str, ...]
    memory: Memory | None = None  # None: as the run before left it.


@dataclass
class Results:
    """All that a benchmark found out so far with one source."""

    setting: Setting
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def seconds(self, contender: str, case: Case) -> list[float]:
        """The times of all rounds."""
        return [m.seconds for m in self._of(contender, case)]

    def median(self, contender: str, case: Case) -> float | None:
        """The median of all rounds, if there was any and none failed."""
        if self.failed(contender, case):
            return None
        return _median(self.seconds(contender, case))

    def program_median(self, contender: str, case: Case) -> float | None:
        """The median of the copying program's own time."""
        return _median([m.program_seconds for m in self._of(contender, case)])

    def failed(self, contender: str, case: Case) -> bool:
        """Whether any round failed, so that its times are not to be trusted."""
        return any(f.contender == contender and f.case == case for f in self.failures)

    def best_other(self, case: Case) -> str | None:
        """The fastest contender that is not bsync."""
        times = {
            entry.name: seconds
            for entry in self.setting.entries
            if entry.standing is Standing.OTHER
            and (seconds := self.median(entry.name, case)) is not None
        }
        return min(times, key=times.__getitem__) if times else None

    def _of(self, contender: str, case: Case) -> list[Measurement]:
        return [m for m in self.measurements if m.contender == contender and m.case == case]


def save(series: Sequence[Results], path: Path) -> None:
    """Write everything as JSON."""
    text = json.dumps([asdict(results) for results in series], indent=2, ensure_ascii=False)
    path.write_text(text + "\n")


def load(path: Path) -> list[Results]:
    """What `save` wrote."""
    return [_results(each) for each in json.loads(path.read_text())]


def latest(work: Path, stem: str) -> Path | None:
    """The newest file of finished measurements whose name begins with `stem`."""
    return max(work.glob(f"{stem}-*.json"), default=None)


def _results(data: Mapping[str, Any]) -> Results:
    return Results(
        _setting(data["setting"]),
        [Measurement(**{**each, "case": Case(each["case"])}) for each in data["measurements"]],
        [Failure(**{**each, "case": Case(each["case"])}) for each in data["failures"]],
    )


def _setting(data: Mapping[str, Any]) -> Setting:
    known = {
        "machine": Machine(**data["machine"]),
        "changes": ChangeCounts(**data["changes"]),
        "cases": tuple(map(Case, data["cases"])),
        "entries": tuple(
            Entry(**{**each, "standing": Standing(each["standing"])}) for each in data["entries"]
        ),
        "skipped": tuple(data["skipped"]),
        "memory": Memory(data["memory"]) if data.get("memory") else None,
    }
    return Setting(**{**data, **known})


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
