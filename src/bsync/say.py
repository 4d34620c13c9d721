"""Single lines of output.  They never end a run: a closed pipe is no reason to stop half-way."""

from __future__ import annotations

import contextlib
import sys

from bsync.errors import BsyncError


def say(text: str, *, error: bool = False) -> None:
    """One line of output, whole or not at all."""
    stream = sys.stderr if error else sys.stdout
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        print(_readable(text, encoding), file=stream, flush=True)


def _readable(text: str, encoding: str) -> str:
    """What a name or a label from a disk says must not be able to steer the terminal."""
    shown = "".join(c if c.isprintable() or c in "\n\t" else _escaped(c) for c in text)
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")


def say_error(error: BsyncError) -> None:
    """An error as people see it: one line, and what to do about it."""
    say(f"bsync: {error.message}", error=True)
    if error.hint:
        say(f"       {error.hint}", error=True)
