# SPDX-License-Identifier: GPL-2.0-only
"""An iSCSI target in user space (tgt) on the loopback network, for one test.

Each has a control socket of its own in the lab's folder, and a port that was free.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lab import wait_until

IQN = "iqn.2004-10.org.example:disk"


def free_port() -> int:
    """A port of the loopback network that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """A port where connections are accepted, and nothing is ever said."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield int(listener.getsockname()[1])


@dataclass
class Target:
    """One target: its LUNs from 1 on are the files; tgt's own LUN 0 is no disk."""

    folder: Path  # for the control socket; short, as socket names are
    luns: dict[int, Path]
    read_only: bool = False
    user: str = ""
    password: str = ""
    port: int = field(default_factory=free_port)
    address: str = "127.0.0.1"  # as in a locator: IPv6 in brackets
    block_size: int = 512  # bytes
    iqn: str = IQN
    _process: subprocess.Popen[bytes] | None = None

    @property
    def word(self) -> str:
        user = f"{self.user}@" if self.user else ""
        return f"iscsi://{user}{self.address}:{self.port}/{self.iqn}"

    def start(self) -> None:
        """Start tgtd, and tell it all."""
        self._process = subprocess.Popen(
            ["tgtd", "--foreground", "--control-port", "1",
             "--iscsi", f"portal={self.address}:{self.port}"],
            env=self._environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        wait_until(lambda: self._tell("sys", "show", ok=False), lambda: "tgtd does not start")
        self._tell("target", "new", "--targetname", self.iqn)
        for lun, path in self.luns.items():
            store = ("--backing-store", str(path), "--blocksize", str(self.block_size))
            self._tell("logicalunit", "new", "--lun", str(lun), *store)
            if self.read_only:
                self._tell("logicalunit", "update", "--lun", str(lun), "--params", "readonly=1")
        if self.user:
            account = ("--user", self.user)
            self._tell("account", "new", *account, "--password", self.password, tid=False)
            self._tell("account", "bind", *account)
        self._tell("target", "bind", "--initiator-address", "ALL")

    def kill(self) -> None:
        """End it, as a power cut would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def _environment(self) -> dict[str, str]:
        return {**os.environ, "TGT_IPC_SOCKET": str(self.folder / "tgt")}

    def _tell(self, mode: str, what: str, *more: str, tid: bool = True, ok: bool = True) -> bool:
        target = ["--tid", "1"] if tid and mode != "sys" else []
        result = subprocess.run(
            ["tgtadm", "--control-port", "1", "--lld", "iscsi", "--mode", mode, "--op", what,
             *target, *more],
            env=self._environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0 or not ok, f"tgtadm {mode} {what}: {result.stderr}"
        return result.returncode == 0


@contextlib.contextmanager
def serving(
    *images: Path, read_only: bool = False, user: str = "", password: str = "",
    address: str = "127.0.0.1", block_size: int = 512, iqn: str = IQN,
) -> Iterator[Target]:  # fmt: skip
    """A target with the images as its LUNs, from 1 on."""
    folder = Path(tempfile.mkdtemp(prefix="tgt-"))
    luns = dict(enumerate(images, 1))
    target = Target(
        folder, luns, read_only, user, password, address=address, block_size=block_size, iqn=iqn
    )  # fmt: skip
    try:
        target.start()
        yield target
    finally:
        target.kill()
        shutil.rmtree(folder)
