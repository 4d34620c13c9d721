# SPDX-License-Identifier: GPL-2.0-only
"""Lines over logarithmic axes, as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]

# In pixels.
WIDTH, HEIGHT = 300, 260
LEFT, RIGHT, TOP, BOTTOM = 62, 34, 66, 48
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
GRID, INK = "#dddddd", "#333333"


@dataclass(frozen=True)
class Panel:
    """One pair of axes: a line for each name."""

    title: str
    lines: Mapping[str, Sequence[Point]]


@dataclass(frozen=True)
class _Scale:
    """Powers of ten from `low` to `high`, onto pixels from `start` to `end`."""

    low: int
    high: int
    start: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], start: float, end: float) -> _Scale:
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return cls(low, max(high, low + 1), start, end)

    def place(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def decades(self) -> list[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def draw(panels: Sequence[Panel], x_title: str, y_title: str) -> str:
    """The panels side by side with the same axes; all values must be above 0."""
    points = [point for panel in panels for line in panel.lines.values() for point in line]
    if not points:
        raise ValueError("nothing to draw")
    across = _Scale.over([x for x, _ in points], LEFT, WIDTH - RIGHT)
    up = _Scale.over([y for _, y in points], HEIGHT - BOTTOM, TOP)
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    width = WIDTH * len(panels)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" '
        f'width="{width}" height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="{INK}">'
    )
    parts = [
        head,
        f'<rect width="{width}" height="{HEIGHT}" fill="white"/>',
        *_legend(names),
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({number * WIDTH} 0)">')
        parts += [
            *_axes(panel.title, across, up, x_title, y_title),
            *_lines(panel, names, across, up),
        ]
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def _legend(names: Sequence[str]) -> Iterator[str]:
    for number, name in enumerate(names):
        x = LEFT + number * 150
        yield _path([(x, 20), (x + 24, 20)], number)
        yield _text(x + 30, 24, name)


def _axes(title: str, across: _Scale, up: _Scale, x_title: str, y_title: str) -> Iterator[str]:
    yield _text((across.start + across.end) / 2, TOP - 12, title, "middle", "bold")
    for value in across.decades():
        x = across.place(value)
        yield _rule(x, up.start, x, up.end)
        yield _text(x, up.start + 16, f"{value:,.0f}", "middle")
    for value in up.decades():
        y = up.place(value)
        yield _rule(across.start, y, across.end, y)
        yield _text(across.start - 6, y + 4, f"{value:g}", "end")
    yield _text((across.start + across.end) / 2, HEIGHT - 10, x_title, "middle")
    middle = (up.start + up.end) / 2
    title = _text(0, 0, y_title, "middle")
    yield f'<g transform="translate(16 {middle:.1f}) rotate(-90)">{title}</g>'


def _lines(panel: Panel, names: Sequence[str], across: _Scale, up: _Scale) -> Iterator[str]:
    for name, line in panel.lines.items():
        number = names.index(name)
        places = [(across.place(x), up.place(y)) for x, y in line]
        yield _path(places, number)
        for x, y in places:
            yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_colour(number)}"/>'


def _path(places: Sequence[Point], number: int) -> str:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    # Told apart without colours, too.
    dashes = ' stroke-dasharray="6 3"' if number % 2 else ""
    look = f'fill="none" stroke="{_colour(number)}" stroke-width="2"{dashes}'
    return f'<polyline points="{text}" {look}/>'


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{GRID}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start", weight: str = "normal") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}"'
    return f"<text {place}>{escape(text)}</text>"


def _colour(number: int) -> str:
    return COLOURS[number % len(COLOURS)]
