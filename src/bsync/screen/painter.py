# SPDX-License-Identifier: GPL-2.0-only
"""Lines at the bottom of a terminal that are painted again and again.

The cursor stays visible, below them: whatever ends or stops the run, there is nothing to bring
back.  A run that goes on after it was stopped (Ctrl-Z) paints anew below what came meanwhile, and
one in the background does not paint.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TextIO

_PAUSE = 0.25  # seconds between two pictures

Picture = Callable[[int, int], list[str]]  # what is shown on so many columns and lines


class Painter:
    """Paints a picture on `stream`, which is a terminal, until it is closed."""

    def __init__(self, stream: TextIO, picture: Picture) -> None:
        self._stream, self._picture = stream, picture
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._painted = 0  # lines
        self._width = 0
        self._before = signal.signal(signal.SIGCONT, self._continued)
        self._thread = threading.Thread(target=self._labour, daemon=True)
        with contextlib.suppress(RuntimeError):  # a limit of the machine: it moves less often
            self._thread.start()

    def paint(self) -> None:
        """Show how things are now."""
        with self._lock:
            width, height = self._size()
            if self._over.is_set() or not self._in_foreground():
                self._painted = 0
                return
            if width != self._width:
                self._painted, self._width = 0, width  # where the old lines are nobody knows
            lines = self._picture(width - 1, height - 1)
            self._write(self._up() + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J")
            self._painted = len(lines)

    @contextlib.contextmanager
    def above(self) -> Iterator[None]:
        """Whatever is written meanwhile stays, above the picture."""
        with self._lock:
            if self._painted and self._in_foreground():
                self._write(f"{self._up()}\x1b[J")
            self._painted = 0
            yield
        self.paint()

    def close(self) -> None:
        """Take the picture away."""
        with self.above():
            self._over.set()
        if self._thread.ident is not None:
            self._thread.join()
        signal.signal(signal.SIGCONT, self._before)

    def _labour(self) -> None:
        while not self._over.wait(_PAUSE):
            self.paint()

    def _continued(self, _number: int, _frame: FrameType | None) -> None:
        self._painted = 0

    def _up(self) -> str:
        return f"\r\x1b[{self._painted}A" if self._painted else "\r"

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text.encode(encoding, "replace").decode(encoding))
            self._stream.flush()

    def _size(self) -> tuple[int, int]:
        with contextlib.suppress(OSError, ValueError):
            columns, lines = os.get_terminal_size(self._stream.fileno())
            if columns and lines:
                return columns, lines
        return 80, 24

    def _in_foreground(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return os.tcgetpgrp(self._stream.fileno()) == os.getpgrp()
        return True  # a terminal that is not ours: nobody stops us
