# SPDX-License-Identifier: GPL-2.0-only
"""Every way a run can end: exit statuses, and the errors that carry them.  Pure.

An error owns its one-line message, an optional hint saying what to do, and its exit
status.  `__main__` is the only place that turns one into output and a process exit.
"""

from __future__ import annotations

import contextlib
import errno
import signal
from collections.abc import Iterator
from enum import IntEnum


class Status(IntEnum):
    """Exit statuses; the man page's table is generated from `MEANING`."""

    DONE = 0
    USAGE = 2
    REFUSED = 3
    UNAVAILABLE = 4
    FAILED = 5
    DIFFERENT = 6
    UNRELEASED = 7
    BUSY = 8
    UNTOLD = 9
    DEFECT = 70
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143

    @property
    def word(self) -> str:
        """Its name for programs."""
        return self.name.lower().replace("_", "-")


MEANING: dict[Status, str] = {
    Status.DONE: "done, and the destination is what the plan promised",
    Status.USAGE: "the command line is wrong",
    Status.REFUSED: "refused before anything was written",
    Status.UNAVAILABLE: "a resource could not be acquired",
    Status.FAILED: "the copy failed: the destination is marked incomplete",
    Status.DIFFERENT: "verification found a difference",
    Status.UNRELEASED: "done, but something could not be released (see bsync recover)",
    Status.BUSY: "something else uses the source or the destination; nothing was written",
    Status.UNTOLD: "done, but not all events of --json could be written",
    Status.DEFECT: "a defect in bsync itself; please report it",
    Status.HUNG_UP: "hung up (SIGHUP); everything released",
    Status.INTERRUPTED: "interrupted (SIGINT, Ctrl-C); everything released",
    Status.TERMINATED: "terminated (SIGTERM); everything released",
}


LEFT = "something could not be released: bsync recover tries again"


def joined(*hints: str) -> str:
    """Several hints as one."""
    return "; ".join(filter(None, hints))


class BsyncError(Exception):
    """An expected failure: `message` is one line, `hint` says what the user can do."""

    status = Status.FAILED
    said = False  # a reporter has shown it

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = " ".join(message.split())
        self.hint = " ".join(hint.split())

    def left_something(self) -> None:
        """Say beside the hint that not everything could be released."""
        self.hint = joined(self.hint, LEFT)


class Usage(BsyncError):
    """The command line is wrong."""

    status = Status.USAGE


class Refused(BsyncError):
    """The plan would be unsafe or impossible; nothing was written."""

    status = Status.REFUSED


class InUse(Refused):
    """Something else uses what is needed, and may be through with it later."""

    status = Status.BUSY


class Unavailable(BsyncError):
    """Something needed could not be acquired: a device, a tool, a privilege."""

    status = Status.UNAVAILABLE


class CopyFailed(BsyncError):
    """A step failed after writing had begun."""

    status = Status.FAILED


class Damaged(CopyFailed):
    """What stands on a disk contradicts itself, so that nothing can be copied by it.  Found
    before anything was written, it is a refusal."""


class Different(BsyncError):
    """The destination is not what it should be."""

    status = Status.DIFFERENT


class Unreleased(BsyncError):
    """The work is done, but something acquired on the way is still there."""

    status = Status.UNRELEASED


class Defect(BsyncError):
    """A mistake of ours."""

    status = Status.DEFECT


class Untold(BsyncError):
    """The work is done, but whoever reads of it has not been told all."""

    status = Status.UNTOLD


_LIMITS = {
    errno.ENOSPC: ("no space left on the filesystem", ""),
    errno.EDQUOT: ("the disk quota is used up", ""),
    errno.EMFILE: ("too many open files", "raise the limit: ulimit -n"),
    errno.ENFILE: ("too many open files on this machine", "raise fs.file-max"),
    errno.EAGAIN: (
        "no more processes or threads can be started",
        "raise the limit on them (ulimit -u), or on memory (ulimit -v)",
    ),
    errno.ENOMEM: ("not enough memory", "free some, or raise the limit: ulimit -v"),
    errno.EUCLEAN: ("the filesystem is damaged", "run e2fsck -f on it"),
    errno.EFBIG: ("a file may not be as large as this", "raise the limit: ulimit -f"),
}

_HINTS = frozenset(hint for _, hint in _LIMITS.values())


def limit_hint(error: OSError) -> str:
    """What to do about a limit of the machine that `error` tells of; empty if it is none."""
    return _LIMITS.get(error.errno or 0, ("", ""))[1]


def of_machine(error: BaseException) -> tuple[str, str] | None:
    """The message and the hint for an exception that is the machine's trouble; None for a defect
    of ours."""
    match error:
        case MemoryError():
            return _LIMITS[errno.ENOMEM]
        case RuntimeError() if "start new thread" in str(error):
            return _LIMITS[errno.EAGAIN]
        case ImportError():
            return f"cannot load {error.name or 'a module'}", "free memory, or reinstall bsync"
        case OSError():
            said, hint = _LIMITS.get(error.errno or 0, (error.strerror or str(error), ""))
            return (f"{error.filename}: {said}" if error.filename else said), hint
    return None


@contextlib.contextmanager
def machine_troubles() -> Iterator[None]:
    """The machine's troubles become `Unavailable`; a defect of ours stays what it is."""
    try:
        yield
    except Exception as error:
        if trouble := of_machine(error):
            raise Unavailable(*trouble) from None
        raise


# The same code works for several stages, so it is the stage that says what a failure means.


@contextlib.contextmanager
def nothing_written() -> Iterator[None]:
    """A stage that leaves the destination as it was: no failure in it is that of a copy."""
    try:
        yield
    except Damaged as error:
        raise Refused(error.message, error.hint) from None
    except CopyFailed as error:
        raise Unavailable(error.message, error.hint) from None


@contextlib.contextmanager
def writing(hint: str = "") -> Iterator[None]:
    """A stage that changes the destination: whatever cannot be had in it is a failed copy.  `hint`
    is added to that of the failure."""
    try:
        with machine_troubles():
            yield
    except Unavailable as error:
        raise CopyFailed(error.message, joined(error.hint, hint)) from None
    except CopyFailed as error:
        if type(error) is CopyFailed and error.hint in ("", *_HINTS):
            raise CopyFailed(error.message, joined(error.hint, hint)) from None
        raise


class Stopped(BaseException):
    """A signal asked the run to end.  Not an `Exception`: no handler may swallow it."""

    said = False

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = signal.Signals(number)
        self.hint = ""
        self._left = False

    def left_something(self) -> None:
        """Say that not everything could be released."""
        self.hint, self._left = joined(self.hint, LEFT), True

    @property
    def message(self) -> str:
        """One line for people."""
        return MEANING[self.status].partition(";" if self._left else "\n")[0]

    @property
    def status(self) -> Status:
        """The shell's convention: 128 plus the signal's number."""
        return Status(128 + self.number)
