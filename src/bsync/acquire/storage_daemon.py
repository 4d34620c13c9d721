# SPDX-License-Identifier: GPL-2.0-only
"""QEMU's storage daemon: what QEMU can open, exported as a file over FUSE.

The daemon is a child in the foreground, not `--daemonize`d: so it dies with bsync however
bsync dies, shares bsync's mount namespace (where its FUSE mount is to be seen, and by nobody
else), and its end is noticed.  It is started with nothing on its command line but a tag that
is this run's alone; all else, passwords too, is said over a socket that it inherits (`qmp`).
A later process knows it by that tag, which is more than a process id tells.

What can be opened twice it serves by NBD as well, where libnbd is installed, on a socket that it
inherits: that is for whoever moves much (`nbd`).  One opening cannot have both: the FUSE export
wants to be able to change the size, and the NBD export forbids it.

Three traps of FUSE, all reproduced with QEMU 7.2:

*Writes in flight together corrupt each other.*  The FUSE export reads each request into one
buffer, also while a write waits for its storage, so the later write's data replace the
earlier's.  The kernel sends one write at a time as long as they are *buffered* ones; direct
ones of a loop device, or a single large one by O_DIRECT, are split and sent together.  So:
never O_DIRECT on a writable export, and loop devices over it without direct I/O (`DIRECT_IO`).

*A failed write that succeeds.*  FUSE cuts what is long, or does not begin with a page; where a
later piece fails, write(2) tells how much was written before it, and the kernel's loop driver takes
that for all.  So the requests of that loop device are short (`LONGEST`), and what does not come in
whole pages comes by its page cache: each request is one piece.

*A hole punched that is not zero.*  The export passes PUNCH_HOLE on as a discard, which may do
nothing and still succeeds; the kernel takes it for zeroing.  So a layer above (blkdebug)
answers ENOSYS to every discard: the kernel then writes zeroes.  Reads are not affected.

Sources: QEMU's QMP reference (BlockdevOptions, BlockExportOptionsFuse, BlkdebugInjectError).
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bsync.acquire import nbd
from bsync.acquire.mount import Mount
from bsync.acquire.nbd import Meeting, Shortcut
from bsync.acquire.qmp import Ended, Monitor, Refusal, Silence
from bsync.acquire.tagged import tagged
from bsync.acquire.watchdog import PATIENCE, Watchdog
from bsync.errors import BsyncError, CopyFailed, Refused, Unavailable, Unreleased, joined
from bsync.ledger import Facts, Ledger
from bsync.run import Service, loaded, start

PASSWORD = "password"  # a node's options name its password so
LONGEST = 128  # KiB of a request of a loop device that is written: FUSE takes 32 pages
DIRECT_IO = {"read-only": True, "writable": False}  # may a loop device over an export have it?
_GRACE = 10.0  # seconds between asking the daemon to end and ending it
_LATENESS = 0.5  # seconds from what fails because the daemon ends to its end
_NODE, _SECOND, _GUARD, _EXPORT = "node", "second", "guard", "export"


@dataclass(frozen=True)
class Node:
    """What is to be exported: QEMU's BlockdevOptions, without `node-name` and `read-only`."""

    word: str  # what the user calls it
    options: Mapping[str, object]
    explain: Callable[[str], BsyncError]  # QEMU's message → ours
    password: str = field(default="", repr=False)
    seconds: float = 45.0  # for the daemon to open it; more than any timeout within it
    twice: bool = False  # it can be opened twice: what one opening writes the other reads


@dataclass(frozen=True)
class Export:
    """A node as a file, and the way past it where there is one."""

    path: Path
    shortcut: Shortcut | None
    watch: Callable[[str], None]  # to be told of a loop device over it


class StorageDaemon:
    """One daemon with one export: `target`, a file of ours that it mounts upon."""

    kind: ClassVar[str] = "storage-daemon"

    def __init__(
        self, tag: str, target: str, node: Node | None = None, *, writable: bool = False
    ) -> None:
        self.tag = tag
        self.target = target
        self._node = node
        self._writable = writable
        self._service: Service | None = None
        self._monitor: Monitor | None = None
        self._meeting: Meeting | None = None
        self.shortcut: Shortcut | None = None

    @classmethod
    def from_facts(cls, facts: Facts) -> StorageDaemon:
        return cls(str(facts["tag"]), str(facts["target"]))

    def facts(self) -> Facts:
        return {"tag": self.tag, "target": self.target}

    @property
    def _socket(self) -> str:
        """Where there is a socket while it gets rid of its name."""
        return f"{self.target}.nbd"

    # --- acquire --------------------------------------------------------------------------

    def acquire(self) -> None:
        """Start the daemon and have it export the node.  Raises `Unavailable`, `Refused`."""
        assert self._node is not None
        os.close(os.open(self.target, os.O_CREAT | os.O_EXCL | os.O_RDONLY, 0o600))
        if self._node.twice and nbd.library():
            self._meeting = Meeting(self._socket)
        loaded("fuse", Path("/dev/fuse"))
        self._monitor = self._start(self._node.seconds)
        try:
            self._monitor.greet()
            self._export(self._monitor, self._opened(self._monitor, self._node))
            if self._meeting:
                self.shortcut = self._served(self._monitor, self._node, self._meeting)
        except Silence:
            self.kill()  # it would not listen to anything milder while it waits
            raise self._node.explain(f"no answer within {self._node.seconds:.0f} seconds") from None
        except Ended:
            raise Unavailable(f"{self._node.word}: {self.fate()}") from None
        if os.stat(self.target).st_size == 0:
            raise Refused(f"{self._node.word} has no medium (size 0)")

    def _start(self, seconds: float) -> Monitor:
        ours, theirs = socket.socketpair()
        inherited = [theirs.fileno()]
        options = [
            "--chardev", f"socket,id={self.tag},fd={theirs.fileno()}",
            "--monitor", f"chardev={self.tag}",
        ]  # fmt: skip
        if self._meeting:
            listening = self._meeting.listening.fileno()
            inherited.append(listening)
            options += ["--nbd-server", f"addr.type=fd,addr.str={listening},max-connections=0"]
        with theirs:
            self._service = start("qemu-storage-daemon", *options, pass_fds=tuple(inherited))
        if self._meeting:
            self._meeting.listening.close()  # it is the daemon's now
        return Monitor(ours, seconds)

    def _opened(self, monitor: Monitor, node: Node) -> str:
        """Have the daemon open the node; the name of what is to be exported."""
        options = {**node.options, "node-name": _NODE, "read-only": not self._writable}
        try:
            if node.password:
                secret = {"qom-type": "secret", "id": PASSWORD, "data": node.password}
                monitor.command("object-add", secret)
            monitor.command("blockdev-add", options)
            if not self._writable:
                return _NODE
            monitor.command("blockdev-add", _guard())
            return _GUARD
        except Refusal as refusal:
            raise node.explain(str(refusal)) from None

    def _export(self, monitor: Monitor, name: str) -> None:
        options = {
            "type": "fuse", "id": _EXPORT, "node-name": name, "mountpoint": self.target,
            "writable": self._writable, "allow-other": "off",
        }  # fmt: skip
        try:
            monitor.command("block-export-add", options)
        except Refusal as refusal:
            raise Unavailable(
                f"no export over FUSE: {refusal}: {self._last_words()}", "modprobe fuse; be root"
            ) from None

    def _served(self, monitor: Monitor, node: Node, meeting: Meeting) -> Shortcut | None:
        """Have the daemon open the node once more, and serve that by NBD; None where whoever has
        it does not admit two."""
        options = {**node.options, "node-name": _SECOND, "read-only": not self._writable}
        export = {
            "type": "nbd", "id": nbd.NAME, "name": nbd.NAME, "node-name": _SECOND,
            "writable": self._writable,
        }  # fmt: skip
        try:
            monitor.command("blockdev-add", options)
            monitor.command("block-export-add", export)
        except Refusal:
            return None
        return Shortcut(meeting, self.target)

    # --- while it is held -----------------------------------------------------------------

    def kill(self) -> None:
        """End the daemon at once: everything that waits for it fails."""
        for process in tagged(self.tag):
            process.send(signal.SIGKILL)

    def fate(self) -> str:
        """How the daemon ended before its time; empty if it did not."""
        if self._service is None or not self._service.ends_within(_LATENESS):
            return ""
        return f"the storage daemon ended: {self._last_words()}"

    def _last_words(self) -> str:
        return (self._service.last_words() if self._service else "") or "no message"

    # --- release --------------------------------------------------------------------------

    def release(self) -> None:
        """End the daemon, remove its mount and its file.  Raises `Unreleased`."""
        for process in tagged(self.tag):
            if not process.end(_GRACE):
                raise Unreleased("cannot stop qemu-storage-daemon", f"see: ps {process.pid}")
        if self._service is not None:
            self._service.end()
        if self._monitor is not None:
            self._monitor.close()
        if self._meeting is not None:
            self._meeting.close()
        Mount(self.tag, self.target).release()  # stale, if the daemon was killed
        for path in (self.target, self._socket):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


@contextlib.contextmanager
def exported(
    ledger: Ledger, node: Node, *, writable: bool, patience: float | None = PATIENCE
) -> Iterator[Export]:
    """The file that `node` is exported as, until the end of the block.

    All that was written to it is on the storage when the block ends well.  A loop device over
    it may have direct I/O as `DIRECT_IO` says.  Storage that does not answer for `patience`
    seconds ends the daemon, and so whatever waits for it, with an error; None waits for ever.
    Raises `Unavailable`, `Refused`; `CopyFailed` where the daemon did not live to the end.
    """
    number = sum(1 for _ in ledger.directory.glob("export-*")) + 1
    tag = f"bsync-{ledger.run}-{number}"
    daemon = StorageDaemon(tag, str(ledger.directory / f"export-{number}"), node,
                           writable=writable)  # fmt: skip
    with ledger.holding(daemon):
        watchdog = Watchdog(daemon.target, patience, daemon.kill)
        with _explained(node, daemon, watchdog), watchdog.watching():
            yield Export(Path(daemon.target), daemon.shortcut, watchdog.watch)
            if writable:
                _flush(daemon.target)


@contextlib.contextmanager
def _explained(node: Node, daemon: StorageDaemon, watchdog: Watchdog) -> Iterator[None]:
    """Say why everything failed, if it failed because the daemon had gone."""
    try:
        yield
    except (BsyncError, OSError) as error:
        fate = watchdog.verdict or daemon.fate()
        if not fate:
            raise
        ours = error if isinstance(error, BsyncError) else CopyFailed("")
        hint = joined("check the server and the network", ours.hint)
        raise type(ours)(f"{node.word}: {fate}", hint) from error


def _flush(path: str) -> None:
    """All that was written has reached the storage, or `CopyFailed`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise CopyFailed(f"the destination cannot be flushed: {error.strerror}") from None


def _guard() -> dict[str, object]:
    """A layer that answers ENOSYS to every discard: that of the second trap."""
    never = {
        "event": "none", "iotype": "discard", "errno": errno.ENOSYS,
        "immediately": True, "once": False,
    }  # fmt: skip
    return {
        "driver": "blkdebug", "node-name": _GUARD, "image": _NODE, "discard": "unmap",
        "inject-error": [never],
    }  # fmt: skip
