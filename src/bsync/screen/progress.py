# SPDX-License-Identifier: GPL-2.0-only
"""How far a run is, as figures and as lines of a screen.  Pure: the time is told.

Seconds are those of a clock that only goes forward; amounts are bytes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from bsync.screen.text import columns_of, cut, padded, time_text
from bsync.units import printable, size_text

NARROW = 70  # columns; with fewer, all is in one line
_BAR = 16  # columns of a bar
_AMOUNT = 20  # columns of the widest amount, "1023 MiB of 1023 MiB"
_FIGURES = 2 + _BAR + 2 + 4 + 2 + _AMOUNT  # columns beside a title
_WINDOW = 15.0  # seconds over which the rate is taken
_SOON = 1.0  # seconds before which no rate is told


@dataclass
class _Row:
    """Something that moves bytes, at most `total`."""

    title: str
    total: int
    done: int = 0
    ended: bool = False


@dataclass
class Progress:
    """What is to be copied or compared, and what is being done."""

    began: float
    rows: dict[int, _Row] = field(default_factory=dict)
    _current: int | None = None
    _doing: str = ""
    _since: float = 0
    _moved: int = 0
    _seen: deque[tuple[float, int]] = field(default_factory=deque)  # when, and what had moved

    def expect(self, index: int, title: str, total: int) -> None:
        """A step that moves bytes is to come."""
        self.rows[index] = _Row(printable(title), total)

    def start(self, index: int, title: str, now: float) -> None:
        """A step begins, one that was expected or another."""
        self._current, self._doing, self._since = index, printable(title), now
        self._seen.append((now, self._moved))

    def advance(self, index: int, done: int, now: float) -> None:
        """So much of a step is through; a second pass over it may count from 0 again."""
        if row := self.rows.get(index):
            self._moved += max(0, done - row.done)
            row.done = min(done, row.total)
            self._seen.append((now, self._moved))
            while self._seen[0][0] < now - _WINDOW:
                self._seen.popleft()

    def end(self, index: int) -> None:
        """A step is done, also one that had less to do than was expected."""
        self._current, self._doing = None, ""
        if row := self.rows.get(index):
            row.done, row.ended = row.total, True

    # --- figures ----------------------------------------------------------------------------

    @property
    def _total(self) -> int:
        return sum(row.total for row in self.rows.values())

    @property
    def _done(self) -> int:
        return sum(row.done for row in self.rows.values())

    def _rate(self, now: float) -> float:
        """Bytes a second, lately; 0: not known."""
        if not self._seen or now - self._seen[0][0] < _SOON:
            return 0
        since, moved = self._seen[0]
        return (self._moved - moved) / (now - since)

    def figures(self, now: float) -> list[str]:
        """Per cent, bytes, rate and the times, what matters most first."""
        done, total, rate = self._done, self._total, self._rate(now)
        amount = f"{size_text(done)} of {size_text(total)}"
        found = [_percent(done, total), amount] if total else []
        if rate and done < total:
            found += [f"{size_text(int(rate))}/s", f"{time_text((total - done) / rate)} left"]
        return [*found, f"{time_text(now - self.began)} elapsed"]

    # --- lines ------------------------------------------------------------------------------

    def lines(self, now: float, width: int, height: int, bar: str = "█░") -> list[str]:
        """What a screen shows that has so many columns and lines."""
        if width < NARROW or height < 3:
            return [_fitting([*self.figures(now), self._doing], width)]
        rows = list(self.rows.values())
        if len(rows) + 2 > height:
            rows = [row for index, row in self.rows.items() if index == self._current]
        found = [_row(row, width, bar) for row in rows]
        found += [cut(text, width) for text in self._waiting(now)]
        first, *others = self.figures(now)
        return [*found, _fitting([f"total {first}", *others], width)]

    def _waiting(self, now: float) -> Iterator[str]:
        """A step that only takes its time."""
        if self._doing and self._current not in self.rows:
            yield f"{self._doing} ... {time_text(now - self._since)}"


def _row(row: _Row, width: int, bar: str) -> str:
    full = row.done * _BAR // row.total if row.total else _BAR * row.ended
    shown = bar[0] * full + bar[1] * (_BAR - full)
    amount = size_text(row.total)
    if row.ended:
        amount = "done"
    elif row.done:
        amount = f"{size_text(row.done)} of {amount}"
    percent = _percent(row.done, row.total) if row.total else ""
    return f"{padded(row.title, width - _FIGURES)}  {shown}  {percent:>4}  {amount}"


def _percent(done: int, total: int) -> str:
    return f"{done * 100 // total if total else 100}%"


def _fitting(parts: list[str], width: int) -> str:
    """As many of the parts as there is room for, but at least a piece of the first."""
    line = cut(parts[0], width)
    for part in filter(None, parts[1:]):
        if columns_of(line) + 2 + columns_of(part) > width:
            break
        line = f"{line}, {part}"
    return line
