# SPDX-License-Identifier: GPL-2.0-only
"""The journal of what is held, and its release."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import threading
from pathlib import Path
from typing import ClassVar

import pytest

from bsync import ledger as ledgers
from bsync.errors import BsyncError, Stopped, Unavailable, Unreleased
from bsync.ledger import Facts, opened, recover


class Fake:
    """A resource that is a file; `script` says what goes wrong."""

    kind: ClassVar[str] = "fake"
    log: ClassVar[list[str]] = []

    def __init__(self, path: Path, *script: str) -> None:
        self.path = path
        self.script = list(script)

    def facts(self) -> Facts:
        return {"path": str(self.path)}

    def acquire(self) -> None:
        if "no acquire" in self.script:
            raise Unavailable(f"{self.path.name} cannot be had")
        self.path.touch()
        self.log.append(f"+{self.path.name}")
        if "half" in self.script:
            raise Unavailable(f"{self.path.name} is had by halves")

    def release(self) -> None:
        if "stopped" in self.script:
            self.script.remove("stopped")
            raise Stopped(signal.SIGTERM)
        if "no release" in self.script:
            raise Unreleased(f"{self.path.name} cannot be released")
        if "broken" in self.script:
            raise OSError(5, "Input/output error", str(self.path))
        if self.path.exists():
            self.path.unlink()
            self.log.append(f"-{self.path.name}")


@pytest.fixture(autouse=True)
def _fresh_log() -> None:
    Fake.log.clear()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "run"


def rebuild(kind: str, facts: Facts) -> Fake:
    assert kind == Fake.kind
    return Fake(Path(str(facts["path"])))


def ledger_lines(directory: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (directory / "ledger").read_text().splitlines()]


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir() if path.name != ledgers.LOCK)


def orphaned(root: Path, *words: str | bytes) -> Path:
    """A ledger that nobody holds, of these lines."""
    directory = root / f"dead-{len(list(root.glob('dead-*')))}"
    directory.mkdir(parents=True)
    lines = [word if isinstance(word, bytes) else word.encode() for word in words]
    (directory / "ledger").write_bytes(b"".join(lines))
    return directory


def acquire_line(entry: int, path: Path) -> str:
    line = {"entry": entry, "event": "acquire", "kind": "fake", "facts": {"path": str(path)}}
    return json.dumps(line) + "\n"


# --- a run --------------------------------------------------------------------------------


def test_it_is_noted_before_it_is_had(root: Path, tmp_path: Path) -> None:
    with opened(root) as ledger:
        seen: list[list[object]] = []

        class Watching(Fake):
            def acquire(self) -> None:
                seen.append([line["event"] for line in ledger_lines(ledger.directory)])
                super().acquire()

        with ledger.holding(Watching(tmp_path / "a")):
            assert seen == [["acquire"]]
            assert ledger_lines(ledger.directory)[0]["facts"] == {"path": str(tmp_path / "a")}
        events = [line["event"] for line in ledger_lines(ledger.directory)]
        assert events == ["acquire", "acquired", "released"]
    assert not left(root)


def test_the_last_had_is_the_first_released(root: Path, tmp_path: Path) -> None:
    with opened(root) as ledger, contextlib.ExitStack() as stack:
        for name in "abc":
            stack.enter_context(ledger.holding(Fake(tmp_path / name)))
    assert Fake.log == ["+a", "+b", "+c", "-c", "-b", "-a"]


@pytest.mark.parametrize("error", [ValueError("x"), Stopped(signal.SIGINT), KeyboardInterrupt()])
def test_it_is_released_whatever_happens(root: Path, tmp_path: Path, error: BaseException) -> None:
    with (
        pytest.raises(type(error)),
        opened(root) as ledger,
        ledger.holding(Fake(tmp_path / "a")),
        ledger.holding(Fake(tmp_path / "b")),
    ):
        raise error
    assert Fake.log[-2:] == ["-b", "-a"]
    assert not left(root)


def test_what_was_had_by_halves_is_released(root: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(Unavailable),
        opened(root) as ledger,
        ledger.holding(Fake(tmp_path / "a", "half")),
    ):
        pytest.fail("it was not had")
    assert not (tmp_path / "a").exists()
    assert not left(root)


@pytest.mark.parametrize("trouble", ["no release", "broken"])
def test_a_failure_stops_no_other_release_and_hides_no_error(
    root: Path, tmp_path: Path, trouble: str
) -> None:
    with (
        pytest.raises(ValueError, match="the real one"),
        opened(root) as ledger,
        ledger.holding(Fake(tmp_path / "a")),
        ledger.holding(Fake(tmp_path / "b", trouble)),
        ledger.holding(Fake(tmp_path / "c", trouble)),
    ):
        raise ValueError("the real one")
    assert len(ledger.failures) == 2, "not every failure is told"
    assert all("\n" not in failure for failure in ledger.failures)
    assert not (tmp_path / "a").exists()
    assert ledger.run in left(root), "the ledger is what recovery needs"


def test_what_could_not_be_released_is_recovered(root: Path, tmp_path: Path) -> None:
    with opened(root) as ledger, ledger.holding(Fake(tmp_path / "b", "no release")):
        pass
    assert (tmp_path / "b").exists()
    assert recover(rebuild, root) == ([f"fake {tmp_path / 'b'}"], [])
    assert not (tmp_path / "b").exists()
    assert not left(root)


def test_a_signal_while_releasing_leaves_nothing(root: Path, tmp_path: Path) -> None:
    with (
        pytest.raises(Stopped),
        opened(root) as ledger,
        ledger.holding(Fake(tmp_path / "a")),
        ledger.holding(Fake(tmp_path / "b", "stopped")),
    ):
        pass
    assert Fake.log == ["+a", "+b", "-b", "-a"]
    assert not left(root)


def test_runs_have_names_of_their_own(root: Path) -> None:
    with opened(root) as one, opened(root) as other:
        assert one.run != other.run
        assert len(left(root)) == 2


def test_nowhere_to_write_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable) as caught, opened(tmp_path / "file" / "run"):
        pytest.fail("there is no place for it")
    assert caught.value.hint.startswith("run as root" if os.geteuid() else "BSYNC_RUNTIME_DIR")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").mkdir()
    with pytest.raises(Unavailable):
        recover(rebuild, tmp_path / "run")


def test_the_lock_goes_with_the_last_run(root: Path) -> None:
    with opened(root):
        with opened(root) as other:
            assert len(left(root)) == 2
        assert other.run not in left(root)
        assert (root / ledgers.LOCK).exists()
    assert not list(root.iterdir())
    (root / ledgers.LOCK).touch()
    recover(rebuild, root)
    assert not list(root.iterdir())


def test_a_lock_that_was_removed_while_it_was_waited_for(root: Path) -> None:
    """Whoever comes next must meet the one who waited."""
    met, done = threading.Event(), threading.Event()

    def wait() -> None:
        with ledgers._exclusive(root):
            met.set()
            done.wait()

    with ledgers._exclusive(root):
        waiting = threading.Thread(target=wait)
        waiting.start()
        assert not met.wait(0.2)
        ledgers._tidy(root)
    try:
        assert met.wait(10)
        with pytest.raises(BlockingIOError), ledgers._exclusive(root, fcntl.LOCK_NB):
            pytest.fail("two at once")
    finally:
        done.set()
        waiting.join()


# --- recovery -----------------------------------------------------------------------------


def test_nothing_to_recover(root: Path) -> None:
    assert recover(rebuild, root) == ([], [])
    assert not root.exists(), "nothing is made where nothing was"


def test_a_live_run_is_left_alone(root: Path, tmp_path: Path) -> None:
    with opened(root) as ledger, ledger.holding(Fake(tmp_path / "a")):
        assert recover(rebuild, root) == ([], [])
        assert (tmp_path / "a").exists()
        assert left(root) == [ledger.run]


def killed_after(lines: int, root: Path, tmp_path: Path) -> None:
    """A child process that is killed right after it wrote its `lines`th line."""
    child = os.fork()
    if child == 0:
        note = ledgers.Ledger.note
        written = [0]

        def noting(self: ledgers.Ledger, line: dict[str, object]) -> None:
            note(self, line)
            written[0] += 1
            if written[0] == lines:
                os.kill(os.getpid(), signal.SIGKILL)

        ledgers.Ledger.note = noting  # type: ignore[method-assign, assignment]
        with (
            opened(root) as ledger,
            ledger.holding(Fake(tmp_path / "a")),
            ledger.holding(Fake(tmp_path / "b")),
        ):
            pass
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "it ended before"


@pytest.mark.parametrize("lines", range(1, 7))
def test_killed_after_any_line(root: Path, tmp_path: Path, lines: int) -> None:
    killed_after(lines, root, tmp_path)
    assert len(left(root)) == 1
    assert recover(rebuild, root)[1] == []
    assert not left(root)
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()


def test_recovery_is_last_in_first_out(root: Path, tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).touch()
    orphaned(root, acquire_line(1, tmp_path / "a"), acquire_line(2, tmp_path / "b"))
    released, failures = recover(rebuild, root)
    assert released == [f"fake {tmp_path / 'b'}", f"fake {tmp_path / 'a'}"]
    assert not failures
    assert Fake.log == ["-b", "-a"]


@pytest.mark.parametrize(
    "torn",
    [
        b'{"entry": 2, "event": "acq',
        b'{"entry": 2}\n',
        b"null\n",
        b"[]\n",
        b"\xff\xfe\n",
        b'{"entry": 7, "event": "released"}\n',
        b"\0\0\0\0",
    ],
)
def test_a_torn_line_is_no_line(root: Path, tmp_path: Path, torn: bytes) -> None:
    (tmp_path / "a").touch()
    orphaned(root, acquire_line(1, tmp_path / "a"), torn)
    assert recover(rebuild, root) == ([f"fake {tmp_path / 'a'}"], [])


def test_a_whole_last_line_that_lacks_its_newline_was_not_acted_on(root: Path) -> None:
    orphaned(root, acquire_line(1, Path("/nowhere")).rstrip("\n"))
    assert recover(rebuild, root) == ([], [])


def test_what_cannot_be_recovered_stays_noted(root: Path, tmp_path: Path) -> None:
    directory = orphaned(root, acquire_line(1, tmp_path / "a"), acquire_line(2, tmp_path / "b"))
    (tmp_path / "a").touch()

    def failing(kind: str, facts: Facts) -> Fake:
        assert kind == "fake"
        path = Path(str(facts["path"]))
        return Fake(path, *(["no release"] if path.name == "b" else []))

    released, failures = recover(failing, root)
    assert released == [f"fake {tmp_path / 'a'}"], "one failure stopped another release"
    assert failures == ["b cannot be released"]
    assert (directory / "ledger").exists()
    assert recover(rebuild, root)[1] == []
    assert not directory.exists()


def test_an_unknown_kind_is_a_failure(root: Path) -> None:
    orphaned(root, acquire_line(1, Path("/x")))

    def unknown(kind: str, _: Facts) -> Fake:
        raise Unreleased(f"unknown {kind}")

    assert recover(unknown, root) == ([], ["unknown fake"])


def test_a_run_killed_before_its_first_line(root: Path) -> None:
    (root / "dead-0").mkdir(parents=True)
    orphaned(root)
    assert recover(rebuild, root) == ([], [])
    assert not left(root)


def test_nothing_is_ever_removed_below_a_run(root: Path, tmp_path: Path) -> None:
    directory = orphaned(root, acquire_line(1, tmp_path / "a"))
    (directory / "source").mkdir()
    (directory / "source" / "precious").write_text("a mount might be here")
    recover(rebuild, root)
    assert (directory / "source" / "precious").read_text()


def test_the_real_kinds_are_rebuilt() -> None:
    from bsync.acquire import rebuild as real

    for kind, facts in (
        ("loop", Facts(device="/dev/loop999999", reference="bsync:x")),
        ("mount", Facts(device="/dev/loop999999", target="/nowhere")),
        ("directory", Facts(path="/nowhere/at/all")),
    ):
        resource = real(kind, facts)
        assert resource.kind == kind
        assert resource.facts() == facts
        resource.release()  # what is not there is released
    for kind in ("loop", "mount", "directory", "lvm"):
        with pytest.raises(BsyncError):
            real(kind, {})
