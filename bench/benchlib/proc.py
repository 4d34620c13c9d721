# SPDX-License-Identifier: GPL-2.0-only
"""Child processes and signals."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

# A program that mounts things needs a while to tidy up before it may be killed.
GRACE_SECONDS = 60.0
SYSTEM_DIRECTORIES = "/usr/local/sbin:/usr/sbin:/sbin"
TAIL_CHARACTERS = 2000
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Argument = str | Path


@dataclass(frozen=True)
class Finished:
    """What a child process wrote, and how long it ran."""

    output: str
    seconds: float


class CommandFailed(Exception):
    """A child process ended with an unexpected exit status."""

    def __init__(self, argv: Sequence[Argument], status: int, output: str) -> None:
        self.status = status
        tail = output[-TAIL_CHARACTERS:].strip()
        super().__init__(f"{' '.join(map(str, argv))}: exit status {status}\n{tail}")


def run(
    argv: Sequence[Argument],
    expected: Sequence[int] = (0,),
    environment: Mapping[str, str] | None = None,
) -> Finished:
    """Run a program to its end; whatever interrupts us stops all its processes as well."""
    start = time.perf_counter()
    with subprocess.Popen(
        [str(argument) for argument in argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**_environment(), **(environment or {})},
        process_group=0,  # A group of its own: rsync forks, and all of it must be stopped.
    ) as process:
        try:
            output = process.communicate()[0].decode(errors="replace")
        except BaseException:
            _stop(process)
            raise
    if process.returncode not in expected:
        raise CommandFailed(argv, process.returncode, output)
    return Finished(output, time.perf_counter() - start)


@contextlib.contextmanager
def service(argv: Sequence[Argument], environment: Mapping[str, str]) -> Iterator[None]:
    """A program that runs until the end of the block, and is then killed."""
    with contextlib.ExitStack() as stack:
        with signals_deferred():
            process = subprocess.Popen(
                [str(argument) for argument in argv],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**_environment(), **environment},
                process_group=0,
            )
            stack.callback(_kill, process)
        yield


def find_program(name: str) -> str | None:
    """The program's path, also where root's directories are not in PATH."""
    return shutil.which(name, path=_environment()["PATH"])


def signals_as_exceptions() -> None:
    """Let the usual ending signals unwind the stack, so that mounts and devices are released."""
    for number in ENDING_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # As nohup wants SIGHUP to be.
            signal.signal(number, _raise_exit)


@contextlib.contextmanager
def signals_deferred() -> Iterator[None]:
    """Let a step end before a signal counts: a mount half made could not be released."""
    earlier = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, earlier)


def _raise_exit(number: int, _frame: FrameType | None) -> None:
    for each in ENDING_SIGNALS:
        signal.signal(each, _ignore)  # A second Ctrl-C must not break the clean-up.
    raise SystemExit(128 + number)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Do nothing; unlike SIG_IGN, child processes do not inherit it."""


def _environment() -> dict[str, str]:
    path = os.environ.get("PATH", "/usr/bin:/bin")
    return {**os.environ, "LC_ALL": "C", "PATH": f"{path}:{SYSTEM_DIRECTORIES}"}


def _stop(process: subprocess.Popen[bytes]) -> None:
    _signal_group(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.communicate(timeout=GRACE_SECONDS)  # Reads on: a full pipe would hold it up.
    _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    _signal_group(process, signal.SIGKILL)
    process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)
