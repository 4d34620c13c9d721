# SPDX-License-Identifier: GPL-2.0-only
"""Text in columns of a screen.  Pure."""

from __future__ import annotations

from unicodedata import combining, east_asian_width


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
