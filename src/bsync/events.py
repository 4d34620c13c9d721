# SPDX-License-Identifier: GPL-2.0-only
"""What happens in a run, as a stream of typed events; reporters render them.  Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from bsync.plan.steps import Plan


@dataclass(frozen=True)
class Planned:
    """The whole plan is known, and nothing has been written yet."""

    plan: Plan


@dataclass(frozen=True)
class StepStarted:
    """The step `index` (counted from 0) of the plan begins; `total` is its bytes, at most."""

    index: int
    title: str
    total: int


@dataclass(frozen=True)
class StepAdvanced:
    """`done` bytes of the step are through."""

    index: int
    done: int


@dataclass(frozen=True)
class StepEnded:
    """The step is done; `said` tells in a few words what it came to."""

    index: int
    said: str
    transferred: int = 0
    files: int | None = 0  # None: blocks were copied of which nobody knows whose they are
    deleted: int = 0


class Notice(StrEnum):
    """What a notice is about, by a name that stays."""

    PREPARING = "preparing"
    OTHER_WAY = "other-way"
    UNCHECKED = "unchecked"
    WAITING = "waiting"
    SNAPSHOT_FILLS = "snapshot-fills"
    RELEASED = "released"
    LEFT = "left"


@dataclass(frozen=True)
class Noticed:
    """Something the user should know."""

    notice: Notice
    text: str


@dataclass(frozen=True)
class Comparing:
    """What a verification is about to compare: titles, and the bytes of each, at most."""

    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Differed:
    """A difference that a verification found: at a `place` ("partition 1"; empty: outside of all),
    in the file at `path` there, if it is one's."""

    place: str
    what: str
    path: str = ""

    @property
    def text(self) -> str:
        return ": ".join(filter(None, (self.place, f"{self.path} {self.what}".strip())))


@dataclass(frozen=True)
class Finished:
    """The run is over and the destination is what the plan promised."""

    text: str
    transferred: int = 0
    files: int | None = 0  # None: blocks were copied of which nobody knows whose they are
    deleted: int = 0


Event = Planned | Comparing | StepStarted | StepAdvanced | StepEnded | Noticed | Differed | Finished
Emit = Callable[[Event], None]
