# SPDX-License-Identifier: GPL-2.0-only
"""bsync without its start: forked off a process that has imported it already.

    python warm.py DESCRIPTOR

serves one caller over the socket with that descriptor.  A run so begins in a moment, which under
emulation spares it seconds.  It is a process of its own, with its own signals, environment and
mounts; only /proc shows the server's command line and environment for it.  What is about these, or
about how a run begins, starts bsync as users do: see `Lab.start`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

_LARGEST = 1 << 17  # bytes of a request: words and an environment
_HANGS = b"hangs"


class Warm:
    """The caller's end of a server."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        atexit.register(self.close)

    def run(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        stdin: bytes = b"",
        limit: float | None = None,
    ) -> tuple[int, bytes, bytes]:
        """Run bsync, or with `faults` before the words bsync with a fault: its exit status (of a
        signal, as `subprocess` has it) and what it wrote.  `TimeoutError` after `limit` seconds."""
        with _memory(stdin) as given, _memory() as said, _memory() as complained:
            request = json.dumps([limit, os.getcwd(), list(words), dict(environment)]).encode()
            socket.send_fds(self._socket, [request], [given, said, complained])
            answer = self._socket.recv(64)
            if not answer:
                raise RuntimeError("the server of bsync has died")
            if answer == _HANGS:
                raise TimeoutError(f"{words}: no end within {limit} seconds")
            return int(answer), _all_of(said), _all_of(complained)

    def close(self) -> None:
        self._socket.close()
        self._server.wait()


@contextlib.contextmanager
def _memory(data: bytes = b"") -> Iterator[int]:
    descriptor = os.memfd_create("warm")
    try:
        os.write(descriptor, data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)


def _all_of(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


# --- the server ---------------------------------------------------------------------------


def _serve(calls: socket.socket) -> None:
    gc.freeze()  # what is shared stays so
    while True:
        request, descriptors, _, _ = socket.recv_fds(calls, _LARGEST, 3)
        if not request:
            return
        limit, *task = json.loads(request)
        child = os.fork()
        if child == 0:
            calls.close()
            _begin(task, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        calls.send(_ended(child, limit))


def _ended(child: int, limit: float | None) -> bytes:
    """How it ended, which it has at the latest after `limit` seconds."""
    descriptor = os.pidfd_open(child)
    in_time, _, _ = select.select([descriptor], [], [], limit)
    os.close(descriptor)
    if not in_time:
        os.kill(child, signal.SIGKILL)
    _, ended = os.waitpid(child, 0)
    return str(os.waitstatus_to_exitcode(ended)).encode() if in_time else _HANGS


def _begin(task: Sequence[Any], descriptors: Sequence[int]) -> NoReturn:
    """Be a run of bsync."""
    status = 1
    try:
        for number, descriptor in enumerate(descriptors):
            os.dup2(descriptor, number)
            os.close(descriptor)
        folder, words, environment = task
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        deferred._came, deferred._written = socket.socketpair(
            type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK
        )
        sys.argv = words
        (faults if Path(words[0]).name == "faults.py" else command).main()
        status = 0
    except SystemExit as error:
        status = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    import faults

    from bsync import __main__ as command
    from bsync import cli, deferred, pipeline, report

    assert all((cli, pipeline, report))
    with socket.socket(fileno=int(sys.argv[1])) as _calls:
        _serve(_calls)
