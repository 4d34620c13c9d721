# SPDX-License-Identifier: GPL-2.0-only
"""How much a line matters, told to journald.

A stream that a service has from systemd leads to the journal, which takes a line's level from a
mark at its beginning.  Interface: sd-daemon(3), and JOURNAL_STREAM in systemd.exec(5).
"""

from __future__ import annotations

import os
from enum import IntEnum
from typing import TextIO


class Level(IntEnum):
    """Levels of lines, as syslog(3) numbers them."""

    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


def mark(stream: TextIO | None, level: Level) -> str:
    """What a line begins with on this stream: nothing, unless it leads to the journal."""
    wanted = os.environ.get("JOURNAL_STREAM")
    if not wanted or stream is None:
        return ""
    try:
        there = os.fstat(stream.fileno())
    except (OSError, ValueError):  # it is closed, or no file
        return ""
    return f"<{level}>" if wanted == f"{there.st_dev}:{there.st_ino}" else ""
