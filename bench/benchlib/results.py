"""Measurements, their medians, and the raw file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

from benchlib.changes import ChangeCounts
from benchlib.machine import Machine


class Case(StrEnum):
    """What is measured."""

    FIRST = "first clone"
    UNCHANGED = "nothing changed"
    CHANGED = "0.1 % changed"


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
    """The circumstances of all measurements."""

    machine: Machine
    started: str
    rounds: int
    seed: int
    source: dict[str, int]
    changes: ChangeCounts
    missing: dict[str, list[str]]
    skipped: tuple[str, ...]


@dataclass
class Results:
    """All that a benchmark found out so far."""

    setting: Setting
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    def seconds(self, contender: str, case: Case) -> list[float]:
        """The times of all rounds."""
        return [m.seconds for m in self._of(contender, case)]

    def median(self, contender: str, case: Case) -> float | None:
        """The median of all rounds, if there was any."""
        return _median(self.seconds(contender, case))

    def program_median(self, contender: str, case: Case) -> float | None:
        """The median of the copying program's own time."""
        return _median([m.program_seconds for m in self._of(contender, case)])

    def failed(self, contender: str, case: Case) -> bool:
        """Whether any round failed, so that its times are not to be trusted."""
        return any(f.contender == contender and f.case == case for f in self.failures)

    def save(self, path: Path) -> None:
        """Write everything as JSON."""
        path.write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    def _of(self, contender: str, case: Case) -> list[Measurement]:
        return [m for m in self.measurements if m.contender == contender and m.case == case]


def _median(values: Sequence[float]) -> float | None:
    return statistics.median(values) if values else None
