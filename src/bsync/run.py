# SPDX-License-Identifier: GPL-2.0-only
"""The one gateway for child processes: no other module imports `subprocess`.

Every child gets a clean environment, no standard input unless given some, a session of
its own (so that Ctrl-C reaches bsync alone, which then ends the child), and dies with
bsync (`setpriv --pdeathsig`), however and whenever bsync dies.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bsync import distribution, trace
from bsync.deferred import deferred
from bsync.errors import BsyncError, CopyFailed, Unavailable

_LIBC = ctypes.CDLL(None, use_errno=True)
_LAST, _MARK = (1 << 32) - 1, 4  # close_range(2): no descriptor is higher; CLOSE_RANGE_CLOEXEC

_GRACE = 5.0  # seconds between asking a child to end and ending it
_GLANCE = 0.1  # seconds between two looks at what a child says
_PIPE = 1 << 20  # bytes
_LOST = 256  # no program's exit status
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "HOME": "/",
    "MKE2FS_CONFIG": "/dev/null",  # the defaults of this machine are not the source's
    "BLKID_FILE": "/dev/null",
    "LVM_SUPPRESS_FD_WARNINGS": "1",
}
_OF_PROGRAMS = {"blkid": {"LIBBLKID_DEBUG": "lowprobe"}}  # else it hides reads that failed
# If the parent died before PDEATHSIG was set, no signal ever comes; so compare PPID.
_GUARD = '[ "$PPID" = "$0" ] && exec "$@"'


@dataclass(frozen=True)
class Completed:
    """What a child left behind: its exit status and its output, decoded."""

    status: int
    output: str
    errors: str


def run(
    *argv: str,
    failure: type[BsyncError] = CopyFailed,
    ok: Collection[int] = (0,),
    given: bytes | None = None,
    watch: Callable[[str], None] | None = None,
    timeout: float | None = None,
    pass_fds: Sequence[int] = (),
    critical: bool = False,
) -> Completed:
    """Run `argv` to its end.  `given` is its standard input, if any; `watch` is called with
    each line of output as it comes.  A `critical` child, which would leave the machine in a bad
    state if it were ended in the middle, is always let run to its end.

    Raises `Unavailable` where the program is missing, and `failure` on an exit status that
    is not `ok` or after `timeout` seconds.
    """
    with trace.command(argv, _OF_PROGRAMS.get(argv[0], {}), given) as ending:
        result = _completed(argv, failure, given, watch, timeout, pass_fds, critical)
        ending.status = result.status
        ending.errors = "" if result.status in ok else result.errors
    if result.status == _LOST or result.status not in ok:
        raise failure(_account(argv[0], result), _hint(result))
    return result


def _completed(
    argv: Sequence[str],
    failure: type[BsyncError],
    given: bytes | None,
    watch: Callable[[str], None] | None,
    timeout: float | None,
    pass_fds: Sequence[int],
    critical: bool,
) -> Completed:
    """What `run` says, whatever the exit status."""
    with _memory() as errors:
        child: _Child | None = None
        try:
            with deferred():
                child = _spawn(argv, errors, given is not None, pass_fds, critical)
            output = _follow(child, watch, given) if watch else _collect(child, given, timeout)
            status = child.wait()
        except subprocess.TimeoutExpired:
            assert child is not None
            _end(child)
            raise failure(f"{argv[0]} did not end within {timeout:.0f} seconds") from None
        except BaseException:
            if child is not None:
                if critical:
                    child.communicate()
                _end(child)
            raise
        errors.seek(0)
        return Completed(status, output, errors.read().decode("utf-8", "replace"))


class _Child(subprocess.Popen[bytes]):
    """A child whose exit status, if somebody else got it, is not taken for 0."""

    def wait(self, timeout: float | None = None) -> int:
        """As in `Popen`, which calls this for every other way of waiting, too."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = _GLANCE / 64
        how = os.WEXITED | os.WNOWAIT | (os.WNOHANG if timeout is not None else 0)
        try:
            while self.returncode is None and os.waitid(os.P_PID, self.pid, how) is None:
                if end is not None and time.monotonic() > end:
                    raise subprocess.TimeoutExpired(self.args, timeout or 0)
                time.sleep(pause)
                pause = min(2 * pause, _GLANCE)
        except ChildProcessError:
            self.returncode = _LOST
        return super().wait()


class Service:
    """A child that runs beside us until it is told to end, or bsync ends."""

    def __init__(self, child: _Child, errors: IO[bytes]) -> None:
        self._child = child
        self._errors = errors

    def ends_within(self, seconds: float) -> bool:
        """Whether it has ended, or does so soon."""
        try:
            self._child.wait(seconds)
            return True
        except subprocess.TimeoutExpired:
            return False

    def last_words(self) -> str:
        """The last line that it wrote to its standard error."""
        size = os.fstat(self._errors.fileno()).st_size
        said = os.pread(self._errors.fileno(), 4096, max(0, size - 4096))
        lines = said.decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def end(self) -> None:
        """End it if it has not ended by itself, and forget it."""
        _end(self._child)
        assert self._child.stdout is not None
        self._child.stdout.close()
        self._errors.close()


def start(*argv: str, pass_fds: Sequence[int] = ()) -> Service:
    """Run `argv` until it is told to end.  Raises `Unavailable` where the program is missing."""
    trace.started(argv)
    errors = _memory()  # the service's, as long as it is there
    with deferred():
        return Service(_spawn(argv, errors, False, pass_fds, False), errors)


class Beside:
    """A bsync that runs beside others to its own end, and whose output is kept as it comes."""

    def __init__(self, *words: str) -> None:
        """Start it: what we are, wherever that is installed, with the environment that we have."""
        argv = (sys.executable, "-m", "bsync", *words)
        here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        trace.started(argv)
        self._output, self._errors, self._read = _memory(), _memory(), 0
        with deferred():
            self._child = _Child(
                argv, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._errors,
                env=here, cwd=_folder(), start_new_session=True,
            )  # fmt: skip

    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        try:
            return self._child.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def lines(self) -> list[str]:
        """The whole lines of its standard output that have come since this was asked last."""
        size = os.fstat(self._output.fileno()).st_size
        text = os.pread(self._output.fileno(), size - self._read, self._read)
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.decode("utf-8", "replace").splitlines()

    def complaints(self) -> list[str]:
        """What it wrote to its standard error."""
        size = os.fstat(self._errors.fileno()).st_size
        return os.pread(self._errors.fileno(), size, 0).decode("utf-8", "replace").splitlines()

    def ask_to_end(self) -> None:
        """Let it release what it holds, and end; nobody makes it."""
        with contextlib.suppress(ProcessLookupError):
            self._child.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Wait for its end, and forget what it said."""
        self._child.wait()
        self._output.close()
        self._errors.close()


def require(programs: Collection[str]) -> None:
    """Raise `Unavailable`, naming their packages, unless all `programs` are installed."""
    missing = [name for name in programs if not installed(name)]
    if missing:
        raise _missing(missing)


def installed(program: str) -> bool:
    """Whether `program` is on this machine."""
    return shutil.which(program, path=_search_path()) is not None


def loaded(module: str, brings: Path) -> bool:
    """Whether what the kernel's module brings is there, once it has been asked to load it: where
    no systemd makes the nodes of modules beforehand, nothing else does."""
    if not brings.exists() and installed("modprobe"):
        run("modprobe", "--quiet", module, ok=range(256), failure=Unavailable)
    return brings.exists()


def _missing(programs: Collection[str]) -> Unavailable:
    return Unavailable(f"not installed: {', '.join(sorted(programs))}", distribution.hint(programs))


def _search_path() -> str:
    return f"{os.environ.get('PATH', '')}:{_PATH}".lstrip(":")


def _spawn(
    argv: Sequence[str], errors: IO[bytes], speaks: bool, pass_fds: Sequence[int], critical: bool
) -> _Child:
    require([argv[0], "setpriv"])
    mortal = ("setpriv", "--pdeathsig", "KILL", "--", "sh", "-c", _GUARD, str(os.getpid()))
    kernel_closes = not pass_fds and _kernel_closes()
    setattr(subprocess, "_USE_VFORK", kernel_closes)  # noqa: B010 documented, but not to mypy
    return _Child(
        list(argv) if critical else [*mortal, *argv],
        stdin=subprocess.PIPE if speaks else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**_ENVIRONMENT, **_OF_PROGRAMS.get(argv[0], {}), "PATH": _search_path()},
        cwd=_folder(),
        start_new_session=True,
        close_fds=not kernel_closes,
        pass_fds=pass_fds,
    )


def _kernel_closes() -> bool:
    """Whether the kernel (5.11) closes a child's copies of our descriptors as it becomes a program.

    Closing one takes as long as storage behind it does not answer (a FUSE export is flushed by
    that).  With vfork(2), which spares us a copy of our page tables, all our threads wait until the
    child is a program, and so would the watchdog that is to end this; the kernel closes them after.
    """
    return getattr(_LIBC, "close_range", lambda *_: -1)(3, _LAST, _MARK) == 0


def _folder() -> str | None:
    """Where a child is to be: with us, or, since rsync wants a folder that has a name, at the
    root."""
    try:
        os.getcwd()
    except OSError:
        return "/"
    return None


def _memory() -> IO[bytes]:
    """A file for what a child says, which needs no room on any disk."""
    return open(os.memfd_create("errors", os.MFD_CLOEXEC), "w+b")


def _collect(child: _Child, given: bytes | None, timeout: float | None) -> str:
    output, _ = child.communicate(given, timeout)
    return output.decode("utf-8", "replace")


def _follow(child: _Child, watch: Callable[[str], None], given: bytes | None) -> str:
    """Hand on the latest line, ended by newline or carriage return; keep those by newline.

    A child that tells of every file would have us wake for each of them, at its own cost too:
    we look now and then, and its pipe is long enough for what it says between.
    """
    assert child.stdout is not None
    if given is not None and child.stdin is not None:
        with contextlib.suppress(BrokenPipeError), child.stdin:  # how it ended, its status tells
            child.stdin.write(given)
    with contextlib.suppress(OSError):  # a limit of the machine: then it waits for us
        fcntl.fcntl(child.stdout.fileno(), fcntl.F_SETPIPE_SZ, _PIPE)
    kept: list[str] = []
    rest, pause = b"", _GLANCE / 64
    while piece := os.read(child.stdout.fileno(), _PIPE):
        *lines, rest = (rest + piece).split(b"\n")
        kept += [line.decode("utf-8", "replace") for line in lines]
        latest = rest.rstrip(b"\r").rpartition(b"\r")[2] or (lines[-1] if lines else b"")
        watch(latest.decode("utf-8", "replace"))
        rest = rest[-4096:]
        time.sleep(pause)
        pause = min(2 * pause, _GLANCE)
    child.stdout.close()
    return "\n".join([*kept, rest.decode("utf-8", "replace")])


def _end(child: _Child) -> None:
    """End the child and whatever it started: asked first, then made to."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
        os.killpg(child.pid, signal.SIGKILL)  # the child itself, or what it left behind
    child.wait()


def _hint(result: Completed) -> str:
    """What to do where the kernel found a filesystem damaged (EUCLEAN)."""
    damaged = os.strerror(errno.EUCLEAN) in result.errors
    return "the filesystem is damaged: run e2fsck -f on it" if damaged else ""


def _account(program: str, result: Completed) -> str:
    """One line: which program, how it ended, and the last words it had."""
    words = [line.strip() for line in result.errors.splitlines() if line.strip()]
    words = [line for line in words if not line.startswith(f"{program} error:")] or words
    said = next((line for line in words if line.startswith(f"{program}:")), "")
    said = said or (words[-1] if words else "no message")
    if result.status == _LOST:
        return f"{program} has ended, but its exit status was lost: {said}"
    if result.status < 0:
        return f"{program} was ended by signal {-result.status}: {said}"
    return f"{program} failed with status {result.status}: {said}"
