# SPDX-License-Identifier: GPL-2.0-only
"""Single lines of output.  They never end a run: a closed pipe is no reason to stop half-way."""

from __future__ import annotations

import contextlib
import sys

from bsync.errors import BsyncError
from bsync.journal import Level, mark
from bsync.units import Marked, printable

RED = "31"  # as terminals number it (SGR)


def say(
    *lines: str, error: bool = False, colour: str = "", marked: str = "", level: Level = Level.INFO
) -> None:
    """Lines of output, whole or not at all, in a colour if it is told, or else what is marked in
    them; the journal hears how much they matter.  What a name or a label from a disk says can
    neither steer the terminal nor break a line."""
    stream = sys.stderr if error else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        begin = mark(stream, level)
        text = "\n".join(begin + _painted(line, marked) for line in lines)
        shown = text.encode(encoding, "backslashreplace").decode(encoding)
        print(_in_colour(shown, colour), file=stream, flush=True)


def _painted(line: str, colour: str) -> str:
    if not isinstance(line, Marked):
        return printable(line)
    return "".join(
        _in_colour(printable(part), colour if stands_out else "")
        for part, stands_out in line.parts()
    )


def _in_colour(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text


def say_error(error: BsyncError) -> None:
    """An error as people see it: one line, and what to do about it."""
    say(f"bsync: {error.message}", error=True, level=Level.ERROR)
    if error.hint:
        say(f"       {error.hint}", error=True, level=Level.ERROR)
