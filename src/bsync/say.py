"""Single lines of output.  They never end a run: a closed pipe is no reason to stop half-way."""

from __future__ import annotations

import contextlib
import sys

from bsync.errors import BsyncError


def say(text: str, *, error: bool = False) -> None:
    """One line of output, whole or not at all."""
    with contextlib.suppress(OSError, ValueError):
        safe = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        print(safe, file=sys.stderr if error else sys.stdout, flush=True)


def say_error(error: BsyncError) -> None:
    """An error as people see it: one line, and what to do about it."""
    say(f"bsync: {error.message}", error=True)
    if error.hint:
        say(f"       {error.hint}", error=True)
