# SPDX-License-Identifier: GPL-2.0-only
"""The journal of everything acquired, and its release: last in, first out, whatever happens.

`/run/bsync/<run>/ledger` gets one JSON line, written and synced, *before* each acquisition
and one after it.  A lock on the file dies with the process, so a ledger without a holder is
an orphan and no process id need be trusted.  `recover` rebuilds the resources of an orphan
from its lines and releases them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

from bsync.deferred import deferred
from bsync.errors import BsyncError, Stopped, Unavailable

# As the kernel names what is mounted below it: whole, and without symbolic links.

LOCK = "lock"  # the file in `folder()` that all runs share, as long as there is a run

Facts = dict[str, str | int | bool]


class Resource(Protocol):
    """Something of the machine's that a run holds for a while.

    `release` may be called at any time, from another process too, and any number of times:
    it looks at what is there, and never touches what is not this resource.
    """

    kind: ClassVar[str]

    def facts(self) -> Facts:
        """The constructor's arguments: all that a later process needs to release it."""

    def acquire(self) -> None:
        """Take it.  Raises `Unavailable`."""

    def release(self) -> None:
        """Give it back if it is there.  Raises `BsyncError` if that cannot be done."""


_Held = TypeVar("_Held", bound=Resource)
Rebuild = Callable[[str, Facts], Resource]


class Ledger:
    """The open ledger of this run."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory = directory
        self.failures: list[str] = []
        self._descriptor = descriptor
        self._count = 0

    @property
    def run(self) -> str:
        """The run's id: unique on this machine, and part of every name we give."""
        return self.directory.name

    @contextlib.contextmanager
    def holding(self, resource: _Held) -> Iterator[_Held]:
        """Hold `resource`: noted, acquired, and released at the end whatever happens.

        A release that fails is kept in `failures` and hides no other error.
        """
        self._count += 1
        entry = self._count
        self.note({"entry": entry, "event": "acquire", "kind": resource.kind,
                   "facts": resource.facts()})  # fmt: skip
        try:
            resource.acquire()
            self.note({"entry": entry, "event": "acquired"})
            yield resource
        finally:
            self._release(entry, resource)

    def _release(self, entry: int, resource: Resource) -> None:
        try:
            try:
                resource.release()
            except Stopped:  # it comes once; what it interrupted is done again
                self._release(entry, resource)
                raise
            with contextlib.suppress(OSError):  # at worst it is released again
                self.note({"entry": entry, "event": "released"})
        except (BsyncError, OSError) as error:
            self.failures.append(_one_line(error))

    def note(self, line: Mapping[str, object]) -> None:
        """Write one line, and see it on the disk before anything else happens."""
        try:
            self._write(line)
        except OSError as error:
            raise OSError(error.errno, os.strerror(error.errno or 0), str(self.directory)) from None

    def _write(self, line: Mapping[str, object]) -> None:
        text, size = json.dumps(line).encode() + b"\n", os.fstat(self._descriptor).st_size
        if os.write(self._descriptor, text) != len(text):
            os.ftruncate(self._descriptor, size)  # or the next line would begin within this one
            raise OSError(errno.ENOSPC, "")
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Forget a ledger with nothing left in it; leave any other one to `recover`."""
        if not self.failures:
            _remove(self.directory)
        os.close(self._descriptor)


def folder() -> Path:
    """Where the ledgers of all runs are."""
    return Path(os.path.realpath(os.environ.get("BSYNC_RUNTIME_DIR") or "/run/bsync"))


@contextlib.contextmanager
def opened(root: Path | None = None) -> Iterator[Ledger]:
    """A new ledger for this run.  Raises `Unavailable` where none can be written."""
    root = root or folder()
    with contextlib.ExitStack() as stack:
        try:
            with _exclusive(root), deferred():
                ledger = _new(root)
                stack.callback(_close, ledger)
        except OSError as error:
            raise Unavailable(
                f"cannot write a ledger in {root}: {error.strerror}", _elsewhere()
            ) from None
        yield ledger


def unopened() -> Ledger:
    """A ledger for what acquires nothing: nothing can be written to it."""
    return Ledger(folder(), -1)


def _elsewhere() -> str:
    """What to do where no ledger can be written."""
    if os.geteuid():
        return "run as root"
    return "BSYNC_RUNTIME_DIR names another folder for it, on a filesystem that can be written"


def _new(root: Path) -> Ledger:
    directory = root / f"{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(4)}"
    directory.mkdir(mode=0o700)
    descriptor = os.open(directory / "ledger", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    return Ledger(directory, descriptor)


def _close(ledger: Ledger) -> None:
    with deferred():
        ledger.close()
        root = ledger.directory.parent
        with contextlib.suppress(OSError), _exclusive(root, fcntl.LOCK_NB):
            _tidy(root)  # whoever has the lock now does so later


def recover(rebuild: Rebuild, root: Path | None = None) -> tuple[list[str], list[str]]:
    """Release what dead runs left behind.  Returns what was released, and what could not be.

    Raises `Unavailable` where the ledgers cannot be read.
    """
    released: list[str] = []
    failures: list[str] = []
    root = root or folder()
    try:
        if root.exists():
            with _exclusive(root):
                for directory in sorted(path for path in root.iterdir() if path.is_dir()):
                    _recover_one(directory, rebuild, released, failures)
                _tidy(root)
    except OSError as error:
        raise Unavailable(
            f"cannot look for ledgers in {root}: {error.strerror}", _elsewhere()
        ) from None
    return released, failures


def runs(root: Path | None = None) -> frozenset[str]:
    """The ids of the runs that have a ledger: those alive, once the dead are recovered."""
    return frozenset(path.name for path in (root or folder()).glob("*") if path.is_dir())


def _recover_one(
    directory: Path, rebuild: Rebuild, released: list[str], failures: list[str]
) -> None:
    with contextlib.ExitStack() as stack:
        try:
            descriptor = os.open(directory / "ledger", os.O_RDWR)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return  # its run is alive
        except FileNotFoundError:
            _remove(directory)
            return
        before = len(failures)
        for kind, facts in reversed(_outstanding(directory / "ledger")):
            try:
                rebuild(kind, facts).release()
                released.append(f"{kind} {' '.join(str(value) for value in facts.values())}")
            except (BsyncError, OSError) as error:
                failures.append(_one_line(error))
        if len(failures) == before:
            _remove(directory)


def _outstanding(path: Path) -> list[tuple[str, Facts]]:
    """What the ledger at `path` noted and did not see released, in order.

    A last line that was cut short is no line: nothing is acquired before its line is whole.
    """
    held: dict[int, tuple[str, Facts]] = {}
    for text in path.read_bytes().split(b"\n")[:-1]:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            line = json.loads(text)
            if line["event"] == "acquire":
                held[line["entry"]] = (line["kind"], line["facts"])
            elif line["event"] == "released":
                del held[line["entry"]]
    return list(held.values())


def _remove(directory: Path) -> None:
    """Remove an empty run's directory.  Never recursive: a mount might be below."""
    (directory / "ledger").unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        directory.rmdir()


@contextlib.contextmanager
def _exclusive(root: Path, how: int = 0) -> Iterator[None]:
    """One process at a time makes or judges ledgers.  Raises `BlockingIOError` if one does so
    now, and `how` is LOCK_NB."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    while True:
        descriptor = os.open(root / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | how)
            if _stands(descriptor, root / LOCK):
                yield
                return
        finally:
            os.close(descriptor)


def _stands(descriptor: int, path: Path) -> bool:
    """Whether the open file still has this name: who waited for its lock may find it removed."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _tidy(root: Path) -> None:
    """Remove the lock, which we have, where no run is left."""
    if os.listdir(root) == [LOCK]:
        (root / LOCK).unlink()


def _one_line(error: BsyncError | OSError) -> str:
    return error.message if isinstance(error, BsyncError) else str(error)
