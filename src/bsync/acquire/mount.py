# SPDX-License-Identifier: GPL-2.0-only
"""Private mounts: in a mount namespace of the run's own, below its directory in /run/bsync.

Nobody else sees them, no automounter or indexer walks into them, nobody's recursive delete
crosses them; and the kernel unmounts them when the run's last process dies, however it dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from bsync.errors import CopyFailed, Unavailable, Unreleased
from bsync.ledger import Facts, Ledger
from bsync.run import run

_NEW_NAMESPACE = 0x00020000  # CLONE_NEWNS, linux/sched.h
# What shows the kernel's processes and devices, and a path in it: a chroot may lack them.
_VIEWS = (("proc", "/proc", "/proc/self"), ("sysfs", "/sys", "/sys/block"))
_PATIENCE = 10.0  # seconds for a mount to become idle


def private_namespace() -> None:
    """Give this process mounts of its own.  Unmounting outside still reaches us (rslave), so
    that nobody's medium is kept busy by our copy of its mount.  Raises `Unavailable`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NAMESPACE) != 0:
        reason = os.strerror(ctypes.get_errno())
        hint = "run as root" if os.geteuid() else "root lacks CAP_SYS_ADMIN: is this a container?"
        raise Unavailable(f"cannot create a mount namespace: {reason}", hint)
    # Not by mountinfo: a chroot may have no /proc.
    if run("mount", "--make-rslave", "/", ok=range(256), failure=Unavailable).status:
        raise Unavailable(
            "/ is not a mount point here (a chroot), so that mounts could not be kept private",
            "before entering it: mount --bind DIR DIR",
        )
    for type_, path, witness in _VIEWS:
        if not os.path.exists(witness):
            run("mount", "--types", type_, type_, path, ok=range(256), failure=Unavailable)


class Directory:
    """An empty directory, made to be mounted on."""

    kind: ClassVar[str] = "directory"

    def __init__(self, path: str) -> None:
        self.path = path

    @classmethod
    def from_facts(cls, facts: Facts) -> Directory:
        return cls(str(facts["path"]))

    def facts(self) -> Facts:
        return {"path": self.path}

    def acquire(self) -> None:
        os.mkdir(self.path, 0o700)

    def release(self) -> None:
        """Remove it; empty or not at all."""
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.path)


class Mount:
    """A filesystem mounted on a directory of ours."""

    kind: ClassVar[str] = "mount"

    def __init__(self, device: str, target: str, type_: str = "", options: str = "") -> None:
        self.device = device
        self.target = target
        self._type = type_
        self._options = options

    @classmethod
    def from_facts(cls, facts: Facts) -> Mount:
        return cls(str(facts["device"]), str(facts["target"]))

    def facts(self) -> Facts:
        return {"device": self.device, "target": self.target}

    def acquire(self) -> None:
        try:
            run(
                "mount", "--types", self._type, "--options", self._options, "--",
                self.device, self.target, failure=Unavailable,
            )  # fmt: skip
        except Unavailable as error:
            if "unknown filesystem type" not in error.message:
                raise
            message = f"this kernel cannot mount {self._type}"
            raise Unavailable(message, "run bsync on one that can") from None

    def release(self) -> None:
        """Unmount it.  Never lazily: a busy mount is said to be busy."""
        deadline = time.monotonic() + _PATIENCE
        while _is_mounted(self.target):
            result = run("umount", "--", self.target, ok=range(-255, 256), failure=Unreleased)
            if result.status and time.monotonic() > deadline:
                raise Unreleased(f"{self.target} ({self.device}) is still mounted", "see: fuser -m")
            if result.status:
                time.sleep(0.1)


def _is_mounted(target: str) -> bool:
    """Whether it is a mount point, as the kernel writes it in mountinfo(5)."""
    lines = Path("/proc/self/mountinfo").read_text(errors="surrogateescape").split("\n")[:-1]
    return any(_unescaped(line.split(" ")[4]) == target for line in lines)


def _unescaped(field: str) -> str:
    """A path as it is: mountinfo writes blanks and backslashes in octal."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)


@contextlib.contextmanager
def mounted(
    ledger: Ledger, device: str, name: str, type_: str, options: Sequence[str]
) -> Iterator[Path]:
    """The filesystem on `device`, privately mounted for the block."""
    target = str(ledger.directory / name)
    harmless = ",".join([*options, "nodev", "nosuid", "noexec"])
    with (
        ledger.holding(Directory(target)),
        ledger.holding(Mount(device, target, type_, harmless)),
    ):
        yield Path(target)


def flush(path: Path) -> None:
    """Everything written to the filesystem at `path` is on its device, or `CopyFailed`.

    Asked for before unmounting, since umount(2) succeeds where data was lost.
    """
    run("sync", "--file-system", str(path), failure=CopyFailed)
