# SPDX-License-Identifier: GPL-2.0-only
"""A systemd for guest tests, with bsync's units and a journal: the first process of a process space
within the guest, with mounts of its own.

    with booted() as systemd:
        assert systemd.start("bsync@nightly") == 0
        assert systemd.journal("bsync@nightly", 5) == ["done: …"]
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from lab import call, wait_until

SETTINGS: Final = Path("/etc/bsync")
CREDENTIALS: Final = Path("/etc/credstore.encrypted")
_OURS: Final = Path("/src/systemd")
_INSTALLED: Final = Path("/usr/local/lib/systemd/system")  # as by `make install`
_COMMAND: Final = Path("/usr/local/bin/bsync")

# All that it knows: what else Debian starts has been started, or is not missed.
_KNOWN: Final = Path("/run/units")
_TARGETS: Final = (
    "basic", "exit", "local-fs", "local-fs-pre", "multi-user", "network", "network-online", "paths",
    "shutdown", "slices", "sockets", "swap", "sysinit", "timers",
)  # fmt: skip
_JOURNAL: Final = ("systemd-journald.service", "systemd-journald.socket")
_GOAL: Final = f"[Unit]\nWants=basic.target timers.target {' '.join(_JOURNAL)}\n"


class Systemd:
    """The manager, as whoever is inside with it sees it."""

    def __init__(self, process: int) -> None:
        self._process = process

    def inside(self, *words: str | Path, ok: tuple[int, ...] = (0,), given: str = "") -> str:
        """What a command says that runs where the services do."""
        into = ("nsenter", f"--target={self._process}", "--mount", "--pid", "--")
        return call(*into, *words, given=given, ok=ok)

    def start(self, *units: str) -> bool:
        """Whether all of them have run to their end, and well."""
        self.inside("timeout", "120", "systemctl", "start", *units, ok=(0, 1, 124))
        return all(self.shown(unit, "Result") == "success" for unit in units)

    def shown(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.inside("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def journal(self, unit: str, level: int) -> list[str]:
        """Lines of that level that bsync has written as this unit."""
        words = ("--output=json", f"--unit={unit}", f"PRIORITY={level}")
        self.inside("journalctl", "--sync")
        found = self.inside("journalctl", "--quiet", *words, "SYSLOG_IDENTIFIER=bsync")
        return [json.loads(row)["MESSAGE"] for row in found.splitlines()]

    def encrypt(self, name: str, secret: str) -> None:
        """Put a credential where systemd finds it, as README says."""
        CREDENTIALS.mkdir(0o700, exist_ok=True)
        words = ("systemd-creds", "encrypt", f"--name={name}", "-", CREDENTIALS / name)
        self.inside(*words, given=secret)

    def settle(self, unit: str, state: str) -> None:
        """Wait until a unit is in this state."""
        self.wait(lambda: self.shown(unit, "ActiveState") == state, unit)

    def wait(self, true: Callable[[], bool], unit: str) -> None:
        """Wait for a condition.  Looking has its price: the unit's run gives way to all others."""

        def looked() -> bool:
            time.sleep(1)
            return true()

        wait_until(looked, lambda: self.story(unit), seconds=300)

    def story(self, unit: str) -> str:
        """All that is known of a unit."""
        status = self.inside("systemctl", "status", "--full", "--lines=99", unit, ok=(0, 3))
        return f"{status}\n{call('dmesg')[-1000:]}"


def settings(name: str, *lines: str) -> None:
    """/etc/bsync/NAME.conf"""
    (SETTINGS / f"{name}.conf").write_text("".join(f"{line}\n" for line in lines))


@contextlib.contextmanager
def booted() -> Iterator[Systemd]:
    """A systemd that has come up.  Afterwards this is a machine without one again."""
    _install()
    command = (
        *("env", "container=guest", f"SYSTEMD_UNIT_PATH={_KNOWN}:/etc/systemd/system:{_INSTALLED}"),
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
        # Credentials are mounted by a child whose mounts are to be seen here.
        *("sh", "-c", 'mount --make-rshared / && exec "$@"', "sh"),
        *("/lib/systemd/systemd", "--system", "--unit=goal.target", "--show-status=no"),
    )
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
        try:
            wait_until(Path("/run/systemd/private").exists, lambda: "systemd does not come up")
            made = Systemd(int(call("pgrep", "--parent", str(process.pid))))
            state = made.inside("systemctl", "is-system-running", "--wait", ok=(0, 1))
            assert state == "running\n", made.inside("systemctl", "--failed")
            yield made
        finally:
            process.kill()
    shutil.rmtree("/run/systemd")


def _install() -> None:
    """The units, the command that they run, and what they hang on."""
    for folder in (_KNOWN, _INSTALLED, SETTINGS):
        folder.mkdir(parents=True, exist_ok=True)
    for name in (*(f"{name}.target" for name in _TARGETS), *_JOURNAL):
        shutil.copy(f"/lib/systemd/system/{name}", _KNOWN)
    (_KNOWN / "goal.target").write_text(_GOAL)
    for path in _OURS.iterdir():
        shutil.copy(path, _INSTALLED)
    # $LAUNCHER: a driver of the test's, with its words.
    _COMMAND.write_text(
        "#!/bin/sh\n"
        f"export PYTHONPATH={os.environ['PYTHONPATH']}\n"
        'exec python3 ${LAUNCHER:--m bsync} "$@"\n'
    )
    _COMMAND.chmod(0o755)
