# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's machine protocol (QMP) over a socket: one JSON object a line, both ways.

The socket is one of a pair, and the daemon inherits the other: it has no name that anybody
else could connect to, and what is said over it (a password, for one) is in no file and on no
command line.
"""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping


class Refusal(Exception):
    """QEMU said no; the message is its own, in one line."""


class Silence(Exception):
    """No answer in time: the daemon waits for something itself."""


class Ended(Exception):
    """No answer will ever come: the daemon has ended."""


class Monitor:
    """Our end of the conversation."""

    def __init__(self, ours: socket.socket, seconds: float) -> None:
        self._socket = ours
        self._seconds = seconds
        self._buffer = b""

    def greet(self) -> None:
        """What has to come first.  Raises `Silence`, `Ended`."""
        self._line(time.monotonic() + self._seconds)
        self.command("qmp_capabilities")

    def command(self, name: str, arguments: Mapping[str, object] | None = None) -> object:
        """What the command returns.  Raises `Refusal`, `Silence`, `Ended`."""
        question = {"execute": name, "arguments": dict(arguments or {})}
        deadline = time.monotonic() + self._seconds
        try:
            self._socket.sendall(json.dumps(question).encode() + b"\n")
        except OSError:
            raise Ended from None
        while True:
            answer = json.loads(self._line(deadline))
            if "error" in answer:
                raise Refusal(" ".join(str(answer["error"].get("desc", "")).split()))
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        self._socket.close()

    def _line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            try:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                piece = self._socket.recv(1 << 16)
            except TimeoutError:
                raise Silence from None
            except OSError:
                raise Ended from None
            if not piece:
                raise Ended
            self._buffer += piece
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line
