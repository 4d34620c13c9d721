# SPDX-License-Identifier: GPL-2.0-only
"""A sector behind an NBD server that cannot be read: QEMU's hangs up, and is asked again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from exports import ledger_in, loop_over
from lab import MIB, PATIENCE, Lab, wait_until
from loopback_target import free_port

from bsync.acquire.image_format import exported_nbd
from bsync.errors import BsyncError
from bsync.ledger import Ledger
from bsync.locate import NbdExport, parse

BAD = 5 * MIB  # the byte whose sector cannot be read


@contextlib.contextmanager
def damaged(image: Path, log: Path) -> Iterator[str]:
    """The locator of an image that qemu-nbd serves, but for one sector."""
    image.write_bytes(os.urandom(8 * MIB))
    port = free_port()
    options = {
        "driver": "raw", "file.driver": "blkdebug", "file.image.driver": "file",
        "file.image.filename": image, "file.inject-error.0.event": "read_aio",
        "file.inject-error.0.sector": BAD // 512, "file.inject-error.0.once": "off",
    }  # fmt: skip
    words = ",".join(f"{name}={value}" for name, value in options.items())
    where = ("--bind", "127.0.0.1", "--port", str(port), "--persistent", "--read-only")
    with log.open("w") as file:
        server = subprocess.Popen(["qemu-nbd", *where, "--image-opts", words], stderr=file)
    try:
        listens = f":{port:04X} 00000000:0000 0A"
        wait_until(
            lambda: listens in Path("/proc/net/tcp").read_text(), lambda: "no server"
        )  # fmt: skip
        yield f"nbd://127.0.0.1:{port}/"
    finally:
        server.kill()
        server.wait()


def test_a_signal_ends_the_run(lab: Lab) -> None:
    log, copy = lab.folder / "log", lab.image("copy", 8 * MIB)
    with damaged(lab.image("image", 0), log) as word:
        run = lab.start("--yes", "--raw", word, copy)
        wait_until(lambda: log.read_text().count("Disconnect") > 3, lambda: log.read_text())
        run.terminate()
        _, said = run.communicate(timeout=PATIENCE)
    assert run.returncode == 128 + signal.SIGTERM, said
    lab.assert_nothing_left()


def test_a_request_has_an_end(lab: Lab) -> None:
    with damaged(lab.image("image", 0), lab.folder / "log") as word, ledger_in(lab) as ledger:
        export = parse(word)
        assert isinstance(export, NbdExport)
        with pytest.raises(BsyncError, match="though others are"):
            read_through(ledger, export)


def read_through(ledger: Ledger, export: NbdExport) -> None:
    with (
        exported_nbd(ledger, export, writable=False, patience=2) as found,
        loop_over(found.path, writable=False) as device,
        open(device, "rb", buffering=0) as loop,
    ):
        found.watch(device)
        os.pread(loop.fileno(), 4096, BAD)
