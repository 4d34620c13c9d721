# SPDX-License-Identifier: GPL-2.0-only
"""Targets that are not there, go away or lie; daemons and runs that die."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from exports import (
    BLOCK,
    SIZE,
    command_lines,
    ledger_in,
    loop_over,
    make_filesystem,
    mounted,
    write_blocks,
    wrong_blocks,
)
from lab import MIB, Lab, call, wait_until
from loopback_target import IQN, Target, free_port, serving, silent_port

from bsync import ledger as ledgers
from bsync.acquire import storage_daemon
from bsync.acquire.iscsi_user import Attached, attached
from bsync.acquire.storage_daemon import StorageDaemon
from bsync.acquire.tagged import tagged
from bsync.errors import CopyFailed, Unavailable
from bsync.ledger import Facts, Ledger, Resource
from bsync.locate import IscsiLun

ALL = range(SIZE // BLOCK)


def at(target: Target) -> IscsiLun:
    return IscsiLun("127.0.0.1", IQN, target.port)


# --- not there ----------------------------------------------------------------------------


def unavailable(lab: Lab, locator: IscsiLun, message: str) -> float:
    """The seconds that it takes to say so."""
    began = time.monotonic()
    with ledger_in(lab) as ledger, pytest.raises(Unavailable, match=message) as caught:
        attached(ledger, locator, None, writable=True).__enter__()
    assert caught.value.hint
    assert str(locator) in caught.value.message
    return time.monotonic() - began


def test_a_name_without_an_address(lab: Lab) -> None:
    unavailable(lab, IscsiLun("nowhere.invalid", IQN), "cannot resolve the portal")


def test_a_port_that_refuses(lab: Lab) -> None:
    unavailable(lab, IscsiLun("127.0.0.1", IQN, free_port()), "refused the connection")


def test_a_portal_that_says_nothing(lab: Lab) -> None:
    with silent_port() as port:
        assert unavailable(lab, IscsiLun("127.0.0.1", IQN, port), "did not answer in time") < 25


def test_a_target_that_the_portal_does_not_know(lab: Lab) -> None:
    with serving(lab.image("lun", SIZE)) as target:
        unavailable(
            lab, IscsiLun("127.0.0.1", f"{IQN}x", target.port), f"does not know {IQN}x"
        )  # fmt: skip


# --- gone in the middle -------------------------------------------------------------------


def while_writing(
    ledger: Ledger, target: Target, patience: float, meanwhile: Callable[[], None]
) -> None:
    """Write all blocks; when a quarter is written, `meanwhile` happens."""
    with (
        attached(ledger, at(target), None, writable=True, patience=patience) as found,
        loop_over(found.export.path, writable=True) as device,
    ):
        write_blocks(device, ALL[: len(ALL) // 4])
        meanwhile()
        write_blocks(device, ALL[len(ALL) // 4 :])


def test_a_target_that_restarts_is_waited_for(lab: Lab) -> None:
    image = lab.image("lun", SIZE)
    with serving(image) as target, ledger_in(lab) as ledger:

        def restart() -> None:
            target.kill()
            threading.Timer(6, target.start).start()

        while_writing(ledger, target, 60, restart)
    assert wrong_blocks(image, ALL) == []


def test_a_target_that_stays_away_ends_the_run(lab: Lab) -> None:
    with serving(lab.image("lun", SIZE)) as target, ledger_in(lab) as ledger:
        began = time.monotonic()
        with pytest.raises(CopyFailed, match="no answer for 4 seconds") as caught:
            while_writing(ledger, target, 4, target.kill)
        assert time.monotonic() - began < 30
        assert caught.value.hint


SPAWNER = """
import sys, time
from pathlib import Path
from bsync import ledger as ledgers
from bsync.acquire import mount
from bsync.acquire.iscsi_user import attached
from bsync.deferred import listening
from bsync.locate import parse
from bsync.run import run
mount.private_namespace()
with listening(), ledgers.opened(Path(sys.argv[1])) as ledger:
    with attached(ledger, parse(sys.argv[2]), None, writable=True, patience=4) as found:
        with found.export.path.open("r+b", buffering=0) as file:
            file.write(b"x")  # or there is nothing to wait for
            print("held", flush=True)
            sys.stdin.readline()
            run("true")
"""


def test_a_child_made_while_the_target_is_away_keeps_nobody_waiting(lab: Lab) -> None:
    """It closes its copy of the export, which waits for the target; the watchdog must not."""
    with serving(lab.image("lun", SIZE)) as target:
        spawner = subprocess.Popen(
            [sys.executable, "-c", SPAWNER, lab.runtime, target.word],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert spawner.stdout is not None
            assert spawner.stdout.readline() == "held\n"
            target.kill()
            _, said = spawner.communicate("\n", timeout=60)
        finally:
            spawner.kill()
            spawner.communicate()
    assert "no answer for 4 seconds, given up" in said
    lab.assert_nothing_left()


def test_a_target_killed_before_the_last_flush_is_noticed(lab: Lab) -> None:
    """What the kernel has not been told is lost must not pass for written."""

    def write(found: Attached) -> None:
        with found.export.path.open("r+b", buffering=0) as file:
            file.write(b"x")
            target.kill()

    with serving(lab.image("lun", SIZE)) as target, ledger_in(lab) as ledger:
        fails(ledger, target, "no answer for 4 seconds", write)


def test_a_daemon_killed_under_a_filesystem(lab: Lab) -> None:
    """umount succeeds although data were lost; sync does not, and neither does the end."""

    def write(found: Attached) -> None:
        tree = lab.folder / "tree"
        with loop_over(found.export.path, writable=True) as device:
            make_filesystem(device, tree)
            with mounted(device, tree):
                (tree / "more").write_bytes(b"x" * MIB)
                kill_daemon(ledger)
                call("sync", "-f", tree, ok=(1,))

    with serving(lab.image("lun", SIZE)) as target, ledger_in(lab) as ledger:
        fails(ledger, target, "the storage daemon ended", write)


def fails(ledger: Ledger, target: Target, message: str, write: Callable[[Attached], None]) -> None:
    """What `write` does to the LUN has to end in an error."""

    def body() -> None:
        with attached(ledger, at(target), None, writable=True, patience=4) as found:
            write(found)

    with pytest.raises(CopyFailed, match=message):
        body()


def test_a_dead_daemon_is_noticed_where_nothing_else_fails(lab: Lab) -> None:
    with (
        serving(lab.image("lun", SIZE)) as target,
        ledger_in(lab) as ledger,
        pytest.raises(CopyFailed, match="storage daemon ended"),
        attached(ledger, at(target), None, writable=True),
    ):
        kill_daemon(ledger)


def kill_daemon(ledger: Ledger) -> None:
    daemons = list(tagged(f"bsync-{ledger.run}-1"))
    for daemon in tagged(f"bsync-{ledger.run}-1"):
        daemon.send(signal.SIGKILL)
    assert len(daemons) == 1
    wait_until(lambda: not command_lines(f"=bsync-{ledger.run}"), lambda: "the daemon lives")


# --- bsync dies ---------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from bsync import ledger as ledgers
from bsync.acquire import mount
from bsync.acquire.iscsi_user import attached
from bsync.deferred import listening
from bsync.locate import parse
mount.private_namespace()
with listening(), ledgers.opened(Path(sys.argv[1])) as ledger:
    with attached(ledger, parse(sys.argv[2]), None, writable=True) as found:
        assert found.export.path.stat().st_size == found.lun.size
        print(ledger.run, flush=True)
        while True:
            time.sleep(0.1)
"""


def held(lab: Lab, target: Target) -> tuple[subprocess.Popen[str], str]:
    """A process that holds the target's LUN, and its run."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, lab.runtime, target.word],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert holder.stdout is not None
    run = holder.stdout.readline().strip()
    assert run
    assert command_lines(run)
    assert run not in Path("/proc/self/mountinfo").read_text(), "nobody else sees the mount"
    return holder, run


def rebuild(kind: str, facts: Facts) -> Resource:
    assert kind == StorageDaemon.kind
    return StorageDaemon.from_facts(facts)


def test_a_run_that_is_killed_leaves_what_can_be_recovered(lab: Lab) -> None:
    with serving(lab.image("lun", SIZE)) as target:
        holder, run = held(lab, target)
        with holder:
            holder.kill()
        wait_until(lambda: not command_lines(run), lambda: "the daemon lives on")
    released, failures = ledgers.recover(rebuild, lab.runtime)
    assert (len(released), failures) == (1, [])
    lab.assert_nothing_left()


@pytest.mark.parametrize("gone", [False, True])
def test_a_run_that_is_ended_leaves_nothing(lab: Lab, gone: bool) -> None:
    with serving(lab.image("lun", SIZE)) as target:
        holder, run = held(lab, target)
        if gone:
            target.kill()
        with holder:
            holder.terminate()
            holder.wait(25)
        assert not command_lines(run)
    lab.assert_nothing_left()


def test_a_daemon_that_outlived_its_run_is_known_by_its_mark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is killed for having a process id; nor for a name that is merely alike."""
    monkeypatch.setattr(storage_daemon, "_GRACE", 0.5)
    mark = "bsync-20000101T000000-0-1"
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    processes = [
        subprocess.Popen([sys.executable, "-c", script, f"chardev={mark}{tail}"])
        for tail in ("", "1")
    ]
    ours, other = processes
    try:
        target = tmp_path / "export-1"
        target.touch()
        StorageDaemon(mark, str(target)).release()
        assert ours.wait(5) < 0
        assert other.poll() is None
        assert not target.exists()
        StorageDaemon(mark, str(target)).release()
    finally:
        for process in processes:
            process.kill()
            process.wait()
