# SPDX-License-Identifier: GPL-2.0-only
"""How a job ended.  Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bsync.errors import Status
from bsync.units import size_text

# From what is best to what is worst.
_ORDER = (
    Status.DONE, Status.UNTOLD, Status.BUSY, Status.UNRELEASED, Status.DIFFERENT,
    Status.REFUSED, Status.UNAVAILABLE, Status.USAGE, Status.FAILED, Status.DEFECT,
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of a job; sizes in bytes."""

    name: str
    status: int
    seconds: float = 0
    transferred: int = 0
    files: int | None = 0  # None: not known
    said: str = ""  # why it failed


def worst(outcomes: Iterable[Outcome]) -> int:
    """The exit status that is the worst of all: an end that is none of ours, or by a signal, is
    worse than those of ours."""
    statuses = {int(status): rank for rank, status in enumerate(_ORDER)}
    return max(
        (outcome.status for outcome in outcomes),
        key=lambda status: statuses.get(status, len(_ORDER)),
        default=0,
    )


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each job, under a heading."""
    rows = [("JOB", "STATUS", "SECONDS", "TRANSFERRED", "")]
    for one in outcomes:
        state = "done" if not one.status else f"failed ({one.status})"
        figures = (f"{one.seconds:.1f}", size_text(one.transferred))
        rows.append((one.name, state, *figures, one.said))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
