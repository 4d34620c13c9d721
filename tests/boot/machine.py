# SPDX-License-Identifier: GPL-2.0-only
"""A virtual PC that starts from a disk image and tells what its console showed.

The image is opened as a snapshot: nothing a guest does changes it.  The
firmware's text output comes over the same serial line as the guest's, so a
message of a boot sector is seen too, and a disk that does not start says why.
"""

import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from debian_disk import MARKER

ATTEMPTS: Final = 2  # under emulation one boot in a few dozen hangs
_TAIL_LINES = 30

# What a terminal would act on and not show.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-Z\\-_a-z]|[\x00\x07\r]")


class BootFailed(Exception):
    """The machine did not get as far as the test wants it to."""

    def __init__(self, reason: str, text: str) -> None:
        tail = "\n".join(text.splitlines()[-_TAIL_LINES:]) or "(nothing)"
        super().__init__(f"{reason}; the end of its console:\n{tail}")


class _Hung(BootFailed):
    """It neither ended nor said what was waited for: worth another attempt."""


def boot(disk: Path, *, timeout: float = 90.0) -> str:
    """Start from a disk, up to its power-off; return the console's text.

    ``BootFailed`` unless its system came up and reported itself.
    """
    return _attempt(disk, None, timeout)


def console(disk: Path, until: str, timeout: float = 90.0) -> str:
    """Start from a disk; return the console's text as soon as some text is in it."""
    return _attempt(disk, until, timeout)


def _attempt(disk: Path, until: str | None, timeout: float) -> str:
    for _ in range(ATTEMPTS - 1):
        try:
            return _run(disk, until, timeout)
        except _Hung:
            continue
    return _run(disk, until, timeout)


def _run(disk: Path, until: str | None, timeout: float) -> str:
    with _machine(disk) as output:
        text, ended = _listen(output, until, time.monotonic() + timeout)
    wanted = MARKER if until is None else until
    if wanted in text and (ended or until is not None):
        return text
    if ended:
        raise BootFailed(f"{disk} ended without saying {wanted!r}", text)
    raise _Hung(f"{disk} did not {'power off' if until is None else 'answer'} in {timeout} s", text)


def _listen(output: IO[bytes], until: str | None, deadline: float) -> tuple[str, bool]:
    """Return the console's text, and whether the machine has ended."""
    raw = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([output], [], [], left)[0]:
            break
        chunk = os.read(output.fileno(), 65536)
        raw += chunk
        if not chunk:
            return _plain(raw), True
        if until is not None and until in _plain(raw):
            break
    return _plain(raw), False


def _plain(raw: bytes) -> str:
    return _CONTROL.sub("", raw.decode("utf-8", errors="replace"))


@contextmanager
def _machine(disk: Path) -> Iterator[IO[bytes]]:
    """Run a machine; yield what its console says, QEMU's own complaints included.

    Its input is a pipe that stays open: at an end of file QEMU would close the
    serial port, and the guest's next write to it would block for ever.
    """
    command = _command(disk)
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


def _command(disk: Path) -> list[str]:
    file = str(disk).replace(",", ",,")  # a comma ends the value
    return [
        *("setpriv", "--pdeathsig", "KILL"),  # a killed test run leaves no machine behind
        "qemu-system-x86_64",
        *("-accel", "tcg,thread=multi,tb-size=256"),
        *("-machine", "pc,graphics=off"),  # brings the firmware's text to the serial line
        *("-cpu", "qemu64", "-smp", "1", "-m", "1G"),
        *("-nodefaults", "-display", "none", "-monitor", "none", "-serial", "stdio"),
        "-no-reboot",  # a kernel that panics ends the run
        "-drive",
        f"file={file},format=raw,if=virtio,snapshot=on,cache=unsafe",
    ]
