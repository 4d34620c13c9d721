# SPDX-License-Identifier: GPL-2.0-only
"""Single lines of output.  They never end a run: a closed pipe is no reason to stop half-way."""

from __future__ import annotations

import contextlib
import sys

from bsync.errors import BsyncError
from bsync.units import printable

RED = "31"  # as terminals number it (SGR)


def say(*lines: str, error: bool = False, colour: str = "") -> None:
    """Lines of output, whole or not at all.  What a name or a label from a disk says can neither
    steer the terminal nor break a line."""
    stream = sys.stderr if error else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        text = "\n".join(map(printable, lines))
        shown = text.encode(encoding, "backslashreplace").decode(encoding)
        print(f"\x1b[{colour}m{shown}\x1b[0m" if colour else shown, file=stream, flush=True)


def say_error(error: BsyncError) -> None:
    """An error as people see it: one line, and what to do about it."""
    say(f"bsync: {error.message}", error=True)
    if error.hint:
        say(f"       {error.hint}", error=True)
