# SPDX-License-Identifier: GPL-2.0-only
"""iSCSI in user space: a target (tgt) on the loopback network, and its LUN as a block device.

The target serves an image file as LUN 1 (its LUN 0 is no disk), with direct I/O: a second page
cache is not between a copy and its disk here either.  It has a port that was free and a control
socket of its own, so that another tgtd on this machine is not concerned.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchlib.disks import flush
from benchlib.proc import CommandFailed, run, service
from bsync import ledger as ledgers
from bsync import passwords
from bsync.acquire import loop
from bsync.acquire.opening import Means, Role, opened
from bsync.errors import BsyncError
from bsync.locate import parse
from bsync.model.layout import Extent

IQN = "iqn.2004-10.org.example:bench"
ADDRESS = "127.0.0.1"
SEGMENT = ("MaxRecvDataSegmentLength", "--value", "262144")  # bytes; tgt has 8192 unasked
START_SECONDS = 15.0
RETRY_SECONDS = 0.1


class LunFailed(Exception):
    """The LUN could not be attached, or not released."""


@dataclass(frozen=True)
class _Control:
    """How to talk to one tgtd: by the socket in its folder (tgtadm(8))."""

    folder: str

    @property
    def environment(self) -> dict[str, str]:
        return {"TGT_IPC_SOCKET": f"{self.folder}/tgt"}

    def tell(self, mode: str, operation: str, *more: str) -> None:
        command = ("tgtadm", "--control-port", "1", "--lld", "iscsi", "--mode", mode)
        run([*command, "--op", operation, *more], environment=self.environment)


@contextlib.contextmanager
def serving(image: Path) -> Iterator[str]:
    """Serve the image until the end of the block; the locator under which it is served."""
    port = _free_port()
    folder = tempfile.mkdtemp(prefix="tgt-")  # Short: it is part of a socket's name.
    try:
        control = _Control(folder)
        portal = ("--iscsi", f"portal={ADDRESS}:{port}")
        # It dies with us, also when nobody is left to kill it.
        command = ("setpriv", "--pdeathsig", "KILL", "tgtd", "-f", "--control-port", "1", *portal)
        with service(command, control.environment):
            _wait_for(control)
            control.tell("target", "new", "--tid", "1", "--targetname", IQN)
            disk = ("--lun", "1", "--backing-store", str(image), "--bsoflags", "direct")
            control.tell("logicalunit", "new", "--tid", "1", *disk)
            control.tell("target", "update", "--tid", "1", "--name", *SEGMENT)
            control.tell("target", "bind", "--tid", "1", "--initiator-address", "ALL")
            yield f"iscsi://{ADDRESS}:{port}/{IQN}"
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def attached_lun(word: str) -> Iterator[Path]:
    """The LUN as a block device, by bsync's own way: what bsync mounts is made the same."""
    try:
        with ledgers.opened() as ledger:
            means = Means(ledger, lambda _text: None, passwords.provider(""))
            with opened(parse(word), Role.DESTINATION, means) as device:
                over = loop.Over(device.descriptor, Extent(0, device.size), writable=True)
                with loop.attached(ledger, over) as attached:
                    yield Path(attached.device)
                    flush(Path(attached.device))
        if ledger.failures:
            raise LunFailed("; ".join(ledger.failures))
    except BsyncError as error:
        raise LunFailed(str(error)) from error


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        return int(probe.getsockname()[1])


def _wait_for(control: _Control) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            control.tell("sys", "show")
        except CommandFailed:
            if time.monotonic() > deadline:
                raise
            time.sleep(RETRY_SECONDS)
        else:
            return
