# SPDX-License-Identifier: GPL-2.0-only
"""`bsync --help` answers at once, and says what there is."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

import pytest
from lab import Lab

HEAVY = {"numpy", "bsync.pipeline", "bsync.plan", "bsync.run", "subprocess", "asyncio"}


def test_help_imports_little(lab: Lab) -> None:
    """How long it takes is printed; what decides it is what it imports."""
    command = [sys.executable, "-X", "importtime", "-m", "bsync", "--help"]
    lines = subprocess.run(
        command, env=lab.environment, capture_output=True, text=True, check=True
    ).stderr.splitlines()
    imported = {line.rpartition("|")[2].strip() for line in lines}
    assert "bsync.cli" in imported
    assert not imported & HEAVY

    def once() -> float:
        begin = time.perf_counter()
        subprocess.run([*command[:1], *command[3:]], env=lab.environment, capture_output=True,
                       check=True)  # fmt: skip
        return time.perf_counter() - begin

    print(f"bsync --help: {statistics.median(once() for _ in range(5)) * 1000:.0f} ms")


@pytest.mark.parametrize("command", ["clone", "plan", "verify", "inspect", "recover"])
def test_every_command_has_help(lab: Lab, command: str) -> None:
    assert command in lab.bsync("--help").out
    assert "Usage: bsync" in lab.bsync(command, "--help").out


def test_the_version(lab: Lab) -> None:
    from bsync import __version__

    assert lab.bsync("--version").out == f"bsync {__version__}\n"


@pytest.mark.parametrize("words", [["--help"], ["clone", "--help"], ["--version"]])
def test_output_that_cannot_be_written_is_no_error(lab: Lab, words: list[str]) -> None:
    reading, closed = os.pipe()
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        for stream in (closed, full):
            run = subprocess.run(
                [sys.executable, "-m", "bsync", *words],
                env=lab.environment, stdout=stream, stderr=subprocess.PIPE, text=True, check=False,
            )  # fmt: skip
            assert (run.returncode, run.stderr) == (0, "")
    finally:
        os.close(closed)
        os.close(full)


def test_a_command_is_never_taken_for_a_device(lab: Lab) -> None:
    """A file called like a command is named by a path."""
    (lab.folder / "recover").write_bytes(b"")
    assert "resources released" in lab.bsync("recover").out
