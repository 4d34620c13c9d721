# SPDX-License-Identifier: GPL-2.0-only
"""Which commands a run has run, for whoever asks (--debug, or BSYNC_DEBUG in the environment; for
the bare lines --verbose, or BSYNC_VERBOSE).

Each is a line on standard error, ready to be run again by hand; how it ended follows as a comment,
and what it complained of, if it failed.  Passwords are never in a command line; what is given on
standard input is told by its size alone.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bsync.journal import Level, mark

ALL, COMMANDS = "BSYNC_DEBUG", "BSYNC_VERBOSE"


@dataclass
class Ending:
    """How a command ended, as far as it is known, and its complaints where it failed."""

    status: int | None = None
    errors: str = ""

    def __str__(self) -> str:
        return "did not end by itself" if self.status is None else f"status {self.status}"


@contextlib.contextmanager
def command(
    argv: Sequence[str], environment: Mapping[str, str], given: bytes | None
) -> Iterator[Ending]:
    """Tell of a command that is run during the block, which says how it ended."""
    ending, began = Ending(), time.monotonic()
    if os.environ.get(COMMANDS) and not os.environ.get(ALL):
        _say(f"+ {shlex.join(argv)}")
    try:
        yield ending
    finally:
        if os.environ.get(ALL):
            _tell(argv, environment, given, ending, time.monotonic() - began)


def started(argv: Sequence[str]) -> None:
    """Tell of a command that goes on beside the run."""
    if os.environ.get(ALL) or os.environ.get(COMMANDS):
        _say(f"+ {shlex.join(argv)}  # goes on")


def _tell(
    argv: Sequence[str], environment: Mapping[str, str], given: bytes | None, ending: Ending,
    seconds: float,
) -> None:  # fmt: skip
    variables = [f"{name}={shlex.quote(value)}" for name, value in environment.items()]
    words = " ".join([*variables, shlex.join(argv)])
    stdin = "" if given is None else f", {len(given)} bytes on standard input"
    _say(f"+ {words}  # {ending}, {seconds:.2f} s{stdin}")
    for line in ending.errors.strip().splitlines():
        _say(f"#   {line}")


def _say(line: str) -> None:
    """A file or terminal that takes nothing more is nobody's trouble here."""
    with contextlib.suppress(OSError, ValueError):
        shown = ascii(line)[1:-1] if not line.isprintable() else line
        print(f"{mark(sys.stderr, Level.DEBUG)}{shown}", file=sys.stderr, flush=True)
