# SPDX-License-Identifier: GPL-2.0-only
"""bsync with a fault in it: `python faults.py POINT COUNT SIGNAL WORD...`

Runs `bsync WORD...`, and sends the signal to itself at the COUNTth time that it comes to
POINT.  SIGKILL so stands for every way of dying without a chance to clean up.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bsync import __main__ as command
from bsync import execute, ledger, run
from bsync.acquire import block, iscsi_user, loop, mount, tree
from bsync.blockio import channel, pump
from bsync.engines import rsync
from bsync.engines.blocks.engine import Copier
from bsync.execution import by_blocks, by_files, context, disk

Hit = Callable[[], None]

# Before or after each call of what: an owner and the name of a function in it.
_BEFORE = {
    "before-line": (ledger.Ledger, "note"),
    "before-write": (block.Device, "write"),
    "before-unmounting": (mount.Mount, "release"),
    "before-detaching": (loop.Loop, "release"),
    "before-superblock": (Copier, "_write_superblock"),
    "before-closing": (ledger.Ledger, "close"),
}
_AFTER = {
    "after-line": (ledger.Ledger, "note"),
    "after-superblock": (Copier, "_write_superblock"),
    "after-step": (execute, "_carry_out"),
    "after-spawn": (run, "_spawn"),
    "after-mounting": (mount.Mount, "acquire"),
    "after-attaching": (loop.Loop, "acquire"),
}


def _counter(count: int, number: int) -> Hit:
    left = count

    def hit() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), number)

    return hit


def _patch(owner: Any, name: str, hit: Hit, *, after: bool) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def patched(*args: Any, **options: Any) -> Any:
        if not after:
            hit()
        result = original(*args, **options)
        if after:
            hit()
        return result

    setattr(owner, name, patched)


def _tear(hit: Hit) -> None:
    """Leave half of a ledger's line behind."""
    whole = ledger.Ledger.note

    def note(self: Any, line: Any) -> None:
        os.write(self._descriptor, json.dumps(line).encode()[:20])
        hit()
        os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - 20)
        whole(self, line)

    ledger.Ledger.note = note  # type: ignore[method-assign]


def _watch_copy(count: int, number: int) -> None:
    """Hit while rsync is at work and the destination holds `count` names; it is slowed down
    so that there is a while to hit."""
    _slow_down(1000)

    def watch() -> None:
        while True:
            for folder in ledger.folder().glob("*/destination-*"):
                with contextlib.suppress(OSError):
                    if len(os.listdir(folder)) >= count and _is_mounted(folder):
                        os.kill(os.getpid(), number)
                        return
            time.sleep(0.001)

    def begin() -> None:  # not before bsync has mounts of its own: a thread shares them then
        threading.Thread(target=watch, daemon=True).start()

    _patch(rsync, "_pass", begin, after=False)


def _slow_down(kilobytes: int) -> None:
    """Let rsync take its time: this many KiB a second."""
    setattr(rsync, "OPTIONS", (*rsync.OPTIONS, f"--bwlimit={kilobytes}"))  # noqa: B010


def _hold(path: Path) -> None:
    """Wait, at the first block that is copied, for as long as there is a file."""
    original = pump.run_all

    def run_all(*args: Any) -> int:
        pump.run_all = original
        path.touch()
        while path.exists():
            time.sleep(0.01)
        return original(*args)

    pump.run_all = run_all  # type: ignore[assignment]


def _watch_blocks(name: str, hit: Hit) -> None:
    """Hit before every call of the blocks engine to `os.name`."""
    original = getattr(os, name)

    class Watched:
        def __getattr__(self, attribute: str) -> Any:
            return getattr(os, attribute)

    def call(*args: Any) -> Any:
        hit()
        return original(*args)

    watched = Watched()
    setattr(watched, name, call)
    setattr(channel, "os", watched)  # noqa: B010


def _watch_starting(program: str, hit: Hit) -> None:
    """Hit while `program` is being started: it runs already, but nobody holds it yet."""
    original = subprocess.Popen.__init__

    def init(self: Any, argv: Any, **options: Any) -> None:
        original(self, argv, **options)
        if program in argv:
            hit()

    setattr(subprocess.Popen, "__init__", init)  # noqa: B010


def _watch_start(program: str, hit: Hit) -> None:
    """Hit as soon as `program` was started."""
    original = run._spawn

    def spawn(argv: Any, *args: Any) -> Any:
        child = original(argv, *args)
        if argv[0] == program:
            hit()
        return child

    setattr(run, "_spawn", spawn)  # noqa: B010


def _kill_soon(program: str, moment: int) -> None:
    """Be killed this many half milliseconds after `program` was started on a device."""

    def die() -> None:
        time.sleep(moment / 2000)
        os.kill(os.getpid(), signal.SIGKILL)

    original = run._spawn

    def spawn(argv: Any, *args: Any) -> Any:
        child = original(argv, *args)
        if argv[0] == program and any(word.startswith("/dev/loop") for word in argv):
            die()
        return child

    setattr(run, "_spawn", spawn)  # noqa: B010


def _is_mounted(folder: Path) -> bool:
    return f" {folder} " in Path("/proc/self/mountinfo").read_text()


def _impatient() -> None:
    """Have little patience for what stays busy."""
    for module in (mount, loop):
        setattr(module, "_PATIENCE", 0.3)  # noqa: B010


def _give_up_after(seconds: float) -> None:
    """Wait this long, and not for a minute, for a LUN in user space to answer again."""
    patched = functools.partial(iscsi_user.attached, patience=seconds)
    setattr(iscsi_user, "attached", patched)  # noqa: B010


def _arrange(point: str, count: int, number: int) -> None:
    """Put the fault in its place."""
    hit = _counter(count, number)
    name, _, detail = point.partition(":")
    points: dict[str, Callable[[], None]] = {
        "torn-line": lambda: _tear(hit),
        "hold": lambda: _hold(Path(detail)),
        "blocks": lambda: _watch_blocks(detail, hit),
        "in-copy": lambda: _watch_copy(count, number),
        "impatient": _impatient,
        "patience": lambda: _give_up_after(count),
        "starting": lambda: _watch_starting(detail, hit),
        "soon": lambda: _kill_soon(detail, count),
        "started": lambda: _watch_start(detail, hit),
    }
    if point == "before-child":
        for module in (disk, by_files, by_blocks, context, tree):
            _patch(module, "run", hit, after=False)
    elif point in _BEFORE:
        _patch(*_BEFORE[point], hit, after=False)
    elif point in _AFTER:
        _patch(*_AFTER[point], hit, after=True)
    elif name in points:
        points[name]()
    else:
        raise SystemExit(f"no such point: {point}")


def main() -> None:
    point, count, number = sys.argv[1], int(sys.argv[2]), signal.Signals[f"SIG{sys.argv[3]}"]
    sys.argv = ["bsync", *sys.argv[4:]]
    _arrange(point, count, number)
    command.main()


if __name__ == "__main__":
    main()
