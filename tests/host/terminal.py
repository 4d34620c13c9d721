# SPDX-License-Identifier: GPL-2.0-only
"""bsync on a terminal, for tests of what it shows there and asks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lab import PATIENCE, Lab, wait_until

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command on a pseudo-terminal."""

    def __init__(
        self, command: list[str], environment: dict[str, str], columns: int = 160, lines: int = 40
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.child = subprocess.Popen(
            command, env={**environment, "TERM": "xterm"}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it
        )  # fmt: skip
        os.close(slave)
        self._shown = b""

    @property
    def raw(self) -> str:
        """All that was written, as it was."""
        return self._shown.decode("utf-8", "replace")

    @property
    def shown(self) -> str:
        """All that was shown, without what moves and colours it."""
        return _ESCAPE.sub("", self.raw).replace("\r\n", "\n")

    def read_until(self, done: Callable[[], bool]) -> None:
        """Read what is shown until something is true, or the run is over."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert time.monotonic() < deadline, self.shown
            if select.select([self._master], [], [], 0.05)[0]:
                try:
                    piece = os.read(self._master, 1 << 16)
                except OSError:  # nobody is on the other side any more
                    return
                self._shown += piece

    def read_until_shown(self, text: str) -> None:
        self.read_until(lambda: text in self.shown)
        assert text in self.shown, self.shown

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt(self) -> int:
        """Type Ctrl-C until the run ends; the exit status.  One may come in the moment before
        the run begins to read, and be seen with the next key only."""

        def typed() -> bool:
            with contextlib.suppress(OSError):  # it ended meanwhile
                self.type("\x03")
            return self.child.poll() is not None

        self.read_until(typed)
        return self.child.wait(PATIENCE)

    def end(self) -> int:
        """Read to the end; the exit status."""
        self.read_until(lambda: False)
        return self.child.wait(PATIENCE)

    def close(self) -> None:
        os.close(self._master)
        if self.child.poll() is None:
            self.child.terminate()
        wait_until(lambda: self.child.poll() is not None, lambda: "it does not end")


@contextlib.contextmanager
def on_terminal(
    lab: Lab, *words: str | Path, columns: int = 160, lines: int = 40
) -> Iterator[Terminal]:
    """A run of bsync."""
    command = [sys.executable, "-m", "bsync", *map(str, lab.engined(words))]
    with running(command, lab.environment, columns, lines) as terminal:
        yield terminal


@contextlib.contextmanager
def running(
    command: list[str], environment: dict[str, str], columns: int = 160, lines: int = 40
) -> Iterator[Terminal]:
    """Any command."""
    terminal = Terminal(command, environment, columns, lines)
    try:
        yield terminal
    finally:
        terminal.close()
