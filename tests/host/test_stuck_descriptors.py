# SPDX-License-Identifier: GPL-2.0-only
"""Storage that does not answer holds up the child that closes it, and no thread of ours."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import MIB, Lab, wait_until

STARTING = """
import os, signal, sys, threading
from bsync.run import run

path, daemon, passed = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "passed"
descriptor = os.open(path, os.O_RDWR)
reading, _writing = os.pipe()
os.kill(daemon, signal.SIGSTOP)
options = {"pass_fds": (reading,)} if passed else {}
starting = threading.Thread(target=run, args=("true",), kwargs=options)
starting.start()
starting.join(0.5)
print("held up" if starting.is_alive() else "not held up")
os.kill(daemon, signal.SIGCONT)
starting.join()
"""


@contextlib.contextmanager
def exported(lab: Lab) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """An image behind FUSE, and the daemon that serves it."""
    image, point = lab.image("image", MIB), lab.image("export", 0)
    child = subprocess.Popen(
        [
            "qemu-storage-daemon", "--blockdev", f"file,node-name=image,filename={image}",
            "--export", f"fuse,id=export,node-name=image,writable=on,mountpoint={point}",
        ]
    )  # fmt: skip
    with child:
        try:
            wait_until(lambda: point.stat().st_size == MIB, lambda: "no export")
            yield point, child
        finally:
            child.terminate()


@pytest.mark.parametrize("descriptors", ["passed", "none"])
def test_a_child_that_cannot_close_holds_up_nobody_else(lab: Lab, descriptors: str) -> None:
    with exported(lab) as (path, daemon):
        words = [sys.executable, "-c", STARTING, str(path), str(daemon.pid), descriptors]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as child:
            try:
                said, _ = child.communicate(timeout=60)
            finally:
                child.kill()
                daemon.send_signal(signal.SIGCONT)
        assert said == "held up\n"
        assert child.returncode == 0
