# SPDX-License-Identifier: GPL-2.0-only
"""The gateway for child processes.  The only unit tests that may start any."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from bsync.errors import BsyncError, CopyFailed, Refused, Stopped, Unavailable
from bsync.run import require, run

pytestmark = pytest.mark.spawns


def gone(pid: int) -> bool:
    """Whether the process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until_gone(pid: int) -> None:
    """Bounded by the child's own life: it would sleep for a minute, and end the test as red."""
    descriptor = os.pidfd_open(pid) if not gone(pid) else -1
    if descriptor >= 0:
        ended, _, _ = select.select([descriptor], [], [], 20)
        os.close(descriptor)
        assert ended, f"process {pid} lives on"


def test_what_it_leaves_behind() -> None:
    done = run("sh", "-c", "echo out; echo err >&2; exit 3", ok=(0, 3))
    assert (done.status, done.output, done.errors) == (3, "out\n", "err\n")


@pytest.mark.parametrize("kind", [CopyFailed, Unavailable, Refused])
def test_a_failure_tells_the_command_the_status_and_the_last_words(kind: type[BsyncError]) -> None:
    with pytest.raises(kind) as caught:
        run("sh", "-c", "echo first >&2; echo the reason >&2; exit 7", failure=kind)
    assert caught.value.message == "sh failed with status 7: the reason"


def test_the_words_of_the_program_itself_are_the_best() -> None:
    with pytest.raises(CopyFailed, match=r"sh failed with status 1: sh: the reason$"):
        run("sh", "-c", "echo 'sh: the reason' >&2; echo more >&2; exit 1")


def test_a_silent_failure() -> None:
    with pytest.raises(CopyFailed, match=r"^false failed with status 1: no message$"):
        run("false")


def test_ended_by_a_signal() -> None:
    with pytest.raises(CopyFailed, match="signal 9"):
        run("sh", "-c", "kill -9 $$")


@pytest.mark.parametrize("program", ["true", "false"])
@pytest.mark.parametrize("timeout", [None, 20.0])
def test_a_lost_exit_status_is_no_success(program: str, timeout: float | None) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # then the kernel keeps none
    try:
        with pytest.raises(CopyFailed, match=f"{program} has ended, but its exit status was lost"):
            run(program, timeout=timeout, ok=range(256))
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_a_missing_program_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable) as caught:
        run("no-such-program")
    assert caught.value.message == "not installed: no-such-program"
    monkeypatch.setattr("bsync.distribution._release", lambda: "ID=debian")
    monkeypatch.setattr("shutil.which", lambda *_args, **_more: None)
    with pytest.raises(Unavailable) as caught:
        require(["mke2fs", "tune2fs", "rsync"])
    assert caught.value.hint == "apt-get install e2fsprogs rsync"


def test_no_standard_input_unless_given() -> None:
    """Ours least of all: it may be the terminal, or a script that somebody pipes into us."""
    reading, writing = os.pipe()
    os.write(writing, b"ours")
    os.close(writing)
    ours = os.dup(0)
    os.dup2(reading, 0)
    try:
        assert run("cat").output == ""
    finally:
        os.dup2(ours, 0)
        os.close(ours)
        os.close(reading)
    assert run("cat", given=b"words\n\xff").output == "words\n\ufffd"


def test_more_input_than_a_pipe_holds() -> None:
    assert len(run("cat", given=b"x" * (1 << 20)).output) == 1 << 20


def test_what_is_given_is_seen_by_no_other_process() -> None:
    """A secret goes through standard input: neither the arguments nor the message has it."""
    with pytest.raises(CopyFailed) as caught:
        run(
            "sh",
            "-c",
            "cat >/dev/null; tr '\\0' ' ' </proc/$$/cmdline >&2; exit 1",
            given=b"s3cret",
        )
    assert "s3cret" not in caught.value.message
    assert "cat >/dev/null" in caught.value.message


def test_a_clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_DEBUG_NOT", "x")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("RSYNC_RSH", "evil")
    monkeypatch.setenv("MKE2FS_CONFIG", "/tmp/x")
    lines = set(run("env").output.splitlines())
    assert {"LANG=C.UTF-8", "LC_ALL=C.UTF-8", "MKE2FS_CONFIG=/dev/null"} <= lines
    names = {line.partition("=")[0] for line in lines}
    assert not names & {"LD_DEBUG_NOT", "RSYNC_RSH", "PYTHONPATH", "VIRTUAL_ENV"}


def test_system_programs_are_found_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PATH")
    assert run("true").status == 0
    require(["mke2fs", "sfdisk", "losetup"])


def test_a_session_of_its_own() -> None:
    """So that Ctrl-C on the terminal reaches bsync, and not rsync behind its back."""
    session = run("sh", "-c", "cat /proc/self/stat").output.rpartition(") ")[2].split()[3]
    assert int(session) != os.getsid(0)


def test_arguments_are_words_never_a_command_line() -> None:
    words = ["a b", "$(id)", "'", '"', "", "-x", "\udcff", "*", "\n"]
    output = run("printf", "%s\\0", *words).output
    assert output.split("\0")[:-1] == [word.replace("\udcff", "\ufffd") for word in words]


def test_output_that_is_no_utf8() -> None:
    assert run("printf", r"\377").output == "\ufffd"


def test_a_program_that_does_not_end() -> None:
    with pytest.raises(CopyFailed, match=r"^sleep did not end within 0 seconds$"):
        run("sleep", "60", timeout=0.05)


def test_lines_are_watched_as_they_come() -> None:
    seen: list[str] = []
    script = r"printf 'one\rtwo\r'; printf 'three\nfour\n'; printf five"
    done = run("sh", "-c", script, watch=seen.append)
    assert done.output.split("\n") == ["one\rtwo\rthree", "four", "five"]
    assert seen[-1] == "five"


def test_much_output_while_watched() -> None:
    done = run("seq", "1", "200000", watch=lambda _: None)
    assert done.output.split() == [str(number) for number in range(1, 200001)]


def test_much_said_on_both() -> None:
    done = run("sh", "-c", "seq 1 100000 >&2; seq 1 100000")
    assert done.output == done.errors


def test_whatever_ends_the_wait_ends_the_child_and_its_children() -> None:
    pids: list[int] = []

    def watch(line: str) -> None:
        pids.extend(int(word) for word in line.split())
        raise Stopped(signal.SIGTERM)

    script = 'sleep 60 & echo "$$ $!"; wait'
    with pytest.raises(Stopped):
        run("sh", "-c", script, watch=watch)
    assert len(pids) == 2
    for pid in pids:
        wait_until_gone(pid)


def test_a_signal_while_it_waits_ends_the_child() -> None:
    """As `__main__` does it: the handler raises in the middle of the wait."""

    def stop(number: int, _frame: object) -> None:
        raise Stopped(number)

    before = signal.signal(signal.SIGUSR1, stop)
    reading, writing = os.pipe()
    try:
        os.set_inheritable(writing, True)

        def interrupt() -> None:
            if os.read(reading, 1):
                os.kill(os.getpid(), signal.SIGUSR1)

        thread = threading.Thread(target=interrupt)
        thread.start()
        script = f"echo $$ >/proc/self/fd/{writing}; sleep 60"
        with pytest.raises(Stopped):
            run("sh", "-c", script, pass_fds=(writing,))
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
        os.close(reading)
        os.close(writing)


def test_a_child_dies_with_us_however_we_die() -> None:
    tell = (
        "from bsync.run import run\n"
        "def tell(line):\n"
        "    print(line, flush=True)\n"
        "run('sh', '-c', 'echo $$; exec sleep 60', watch=tell)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", tell], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert not gone(pid)
        process.kill()
    wait_until_gone(pid)


def test_descriptors_are_passed_only_on_demand(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        path = f"/proc/self/fd/{file.fileno()}"
        assert run("readlink", path, ok=(0, 1)).status == 1
        assert run("readlink", path, pass_fds=(file.fileno(),)).output.strip() == file.name


def test_no_descriptor_is_left_open() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for watch in (None, lambda _: None):
        run("true", watch=watch)
        with pytest.raises(CopyFailed):
            run("false", watch=watch)
    assert len(os.listdir("/proc/self/fd")) == before
