# SPDX-License-Identifier: GPL-2.0-only
"""Text in columns of a screen.  Pure."""

from __future__ import annotations

import textwrap
from unicodedata import combining, east_asian_width

_LEAST = 8  # columns that a cell keeps


def columns_of(text: str) -> int:
    """How many columns printable `text` takes."""
    return sum(map(_columns, text))


def _columns(character: str) -> int:
    if combining(character):
        return 0
    return 2 if east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """`text`, or as much of it as there is room for in `width` columns."""
    if columns_of(text) <= width:
        return text
    room, kept = max(width - 1, 0), ""
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept += character
    return f"{kept}…" if width > 0 else ""


def padded(text: str, width: int) -> str:
    """`text` in exactly `width` columns."""
    text = cut(text, width)
    return text + " " * (width - columns_of(text))


def time_text(seconds: float) -> str:
    """`0:07`, `12:34`, `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def wrapped(text: str, width: int, indent: int = 0, begin: str = "") -> list[str]:
    """Lines of printable `text`, all but the first one indented; words stay whole."""
    return textwrap.wrap(
        text, width, initial_indent=begin, subsequent_indent=" " * indent, break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def in_columns(
    rows: list[tuple[str, ...]], right: frozenset[int], shrinking: int, width: int = 0
) -> list[str]:
    """Rows of printable texts below each other, those columns that are `right` aligned so.  Where
    they would take more than `width` columns, one of them is `shrinking`; 0: as wide as need be."""
    widths = [max(map(columns_of, column)) for column in zip(*rows, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    if width and excess > 0:
        widths[shrinking] = max(widths[shrinking] - excess, _LEAST)
    lines = []
    for row in rows:
        cells = [
            " " * (size - columns_of(cell)) + cell if at in right else padded(cell, size)
            for at, (cell, size) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(cut("  ".join(cells).rstrip(), width) if width else "  ".join(cells).rstrip())
    return lines


def meter(part: int, whole: int, width: int = 10) -> str:
    """`[###.......]  31%`: how much of the whole a part is."""
    full = min(part * width // whole, width) if whole else 0
    percent = part * 100 // whole if whole else 0
    return f"[{'#' * full}{'.' * (width - full)}] {percent:3}%"
