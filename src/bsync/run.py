"""The one gateway for child processes: no other module imports `subprocess`.

Every child gets a clean environment, no standard input unless given some, a session of
its own (so that Ctrl-C reaches bsync alone, which then ends the child), and dies with
bsync (`setpriv --pdeathsig`), however bsync dies.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import IO

from bsync.errors import BsyncError, CopyFailed, Unavailable

_GRACE = 5.0  # seconds between asking a child to end and ending it
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_ENVIRONMENT = {
    "LANG": "C.UTF-8",
    "LC_ALL": "C.UTF-8",
    "HOME": "/",
    "MKE2FS_CONFIG": "/dev/null",  # the defaults of this machine are not the source's
    "BLKID_FILE": "/dev/null",
}
# Debian's package for each program, for the hint when one is missing.
_PACKAGES = {
    "rsync": "rsync", "mke2fs": "e2fsprogs", "tune2fs": "e2fsprogs", "e2fsck": "e2fsprogs",
    "sfdisk": "fdisk", "blkid": "util-linux", "wipefs": "util-linux", "mkswap": "util-linux",
    "lsblk": "util-linux", "losetup": "mount", "mount": "mount", "umount": "mount",
    "setpriv": "util-linux",
}  # fmt: skip


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
) -> Completed:
    """Run `argv` to its end.  `given` is its standard input, if any; `watch` is called with
    each line of output as it comes.

    Raises `Unavailable` where the program is missing, and `failure` on an exit status that
    is not `ok` or after `timeout` seconds.
    """
    with tempfile.TemporaryFile() as errors:
        child = _spawn(argv, errors, given is not None, pass_fds)
        try:
            output = _follow(child, watch) if watch else _collect(child, given, timeout)
            status = child.wait()
        except subprocess.TimeoutExpired:
            _end(child)
            raise failure(f"{argv[0]} did not end within {timeout:.0f} seconds") from None
        except BaseException:
            _end(child)
            raise
        errors.seek(0)
        result = Completed(status, output, errors.read().decode("utf-8", "replace"))
    if result.status not in ok:
        raise failure(_account(argv[0], result))
    return result


def require(programs: Collection[str]) -> None:
    """Raise `Unavailable`, naming the Debian packages, unless all `programs` are installed."""
    missing = [name for name in programs if shutil.which(name, path=_search_path()) is None]
    if missing:
        raise _missing(missing)


def _missing(programs: Collection[str]) -> Unavailable:
    packages = sorted({_PACKAGES.get(name, name) for name in programs})
    return Unavailable(
        f"not installed: {', '.join(sorted(programs))}", f"apt-get install {' '.join(packages)}"
    )


def _search_path() -> str:
    return f"{os.environ.get('PATH', '')}:{_PATH}".lstrip(":")


def _spawn(
    argv: Sequence[str], errors: IO[bytes], speaks: bool, pass_fds: Sequence[int]
) -> subprocess.Popen[bytes]:
    require([argv[0], "setpriv"])
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", "--", *argv],
        stdin=subprocess.PIPE if speaks else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=errors,
        env={**_ENVIRONMENT, "PATH": _search_path()},
        start_new_session=True,
        pass_fds=pass_fds,
    )


def _collect(child: subprocess.Popen[bytes], given: bytes | None, timeout: float | None) -> str:
    output, _ = child.communicate(given, timeout)
    return output.decode("utf-8", "replace")


def _follow(child: subprocess.Popen[bytes], watch: Callable[[str], None]) -> str:
    """Hand on every line, ended by newline or carriage return; keep those by newline."""
    assert child.stdout is not None
    kept: list[str] = []
    rest = b""
    while piece := os.read(child.stdout.fileno(), 1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        kept += [line.decode("utf-8", "replace") for line in lines]
        latest = rest.rstrip(b"\r").rpartition(b"\r")[2] or (lines[-1] if lines else b"")
        watch(latest.decode("utf-8", "replace"))
        rest = rest[-4096:]
    child.stdout.close()
    return "\n".join([*kept, rest.decode("utf-8", "replace")])


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the child and whatever it started: asked first, then made to."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(_GRACE)
            return
        except ProcessLookupError:
            child.wait()
            return
        except subprocess.TimeoutExpired:
            continue


def _account(program: str, result: Completed) -> str:
    """One line: which program, how it ended, and the last words it had."""
    words = [line.strip() for line in result.errors.splitlines() if line.strip()]
    said = next((line for line in words if line.startswith(f"{program}:")), "")
    said = said or (words[-1] if words else "no message")
    if result.status < 0:
        return f"{program} was ended by signal {-result.status}: {said}"
    return f"{program} failed with status {result.status}: {said}"
