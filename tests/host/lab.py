# SPDX-License-Identifier: GPL-2.0-only
"""Real disks to test on: image files, loop devices, filesystems, and the command itself.

Everything a `Lab` attaches or mounts is released at the end of its test, and nothing of
bsync's may be left by then.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from warm import Warm

KIB = 1024
MIB = 1 << 20
SECTOR = 512
# A shell script that works for a long time in the folder that is its last argument.
STAYING = 'for last; do :; done; cd "$last" && exec sleep 1000'
PATIENCE = 300  # seconds after which a run is taken to hang
_ENGINELESS = ("verify", "inspect", "recover", "-h", "--help", "--version")


def call(*argv: str | Path, given: str | None = None, ok: tuple[int, ...] = (0,)) -> str:
    """Run a command of the system; its output.  Fails the test on another status."""
    result = subprocess.run(
        [str(word) for word in argv], input=given, capture_output=True, text=True, check=False,
        errors="surrogateescape",
    )  # fmt: skip
    assert result.returncode in ok, f"{argv}: {result.returncode}\n{result.stdout}{result.stderr}"
    return result.stdout


@dataclass(frozen=True)
class Run:
    """How a run of bsync ended."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Part:
    """A partition of an image; start and size in bytes."""

    number: int
    start: int
    size: int
    type: str


Started = subprocess.Popen[str]


@functools.cache
def warm() -> Warm:
    """The server of this process' runs."""
    return Warm()


def _text(said: bytes) -> str:
    text = said.decode(errors="surrogateescape")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def wait_until(true: Callable[[], bool], story: Callable[[], str], seconds: float = 120) -> None:
    """Wait for a condition; a failed test, telling the story, if it does not come true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, story()
        time.sleep(0.01)


def digest(image: Path) -> str:
    """What an image holds, in short."""
    with image.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _backed_by(device: str, image: Path) -> bool:
    """Whether the loop device is attached to the image."""
    try:
        backing = Path(f"/sys/block/{Path(device).name}/loop/backing_file").read_text()
    except OSError:
        return False
    return backing.removesuffix("\n") == str(image)


class Lab:
    """A directory for images, and a runtime directory of its own for bsync."""

    def __init__(self, folder: Path, engine: str = "") -> None:
        self.folder = folder
        self.engine = engine  # by which this lab's runs clone; empty: as they choose themselves
        self.runtime = folder / "run"
        self.environment = {**os.environ, "BSYNC_RUNTIME_DIR": str(self.runtime)}
        self.environment.pop("BSYNC_DEBUG", None)
        self.environment.pop("BSYNC_VERBOSE", None)
        self.environment["COLUMNS"] = "1000"  # no line of a plan is wrapped
        # Stand-ins for programs go there, and by it every process of this lab is known: bsync
        # gives its children nothing of its own environment but the search path.
        self.programs = folder / "programs"
        self.environment["PATH"] = f"{self.programs}:{os.environ.get('PATH', os.defpath)}"

    # --- images ---------------------------------------------------------------------------

    def image(self, name: str, size: int) -> Path:
        """A sparse file of `size` bytes."""
        path = self.folder / name
        with path.open("xb") as file:
            file.truncate(size)
        return path

    def table(self, image: Path, script: str) -> list[Part]:
        """Partition `image` by an sfdisk script."""
        call("sfdisk", "--quiet", image, given=script)
        return self.partitions(image)

    def partitions(self, image: Path) -> list[Part]:
        said = call("sfdisk", "--json", image)  # remarks may stand before it
        table = json.loads(said[said.index("{") :])["partitiontable"]
        unit = table["sectorsize"]
        return [
            Part(
                int(row["node"].removeprefix(str(image)).lstrip("p")),
                row["start"] * unit, row["size"] * unit, row["type"],
            )
            for row in table.get("partitions", [])
        ]  # fmt: skip

    # --- devices and mounts ---------------------------------------------------------------

    @contextlib.contextmanager
    def attached(
        self, image: Path, part: Part | None = None, *, read_only: bool = False,
        sector_size: int = SECTOR,
    ) -> Iterator[str]:  # fmt: skip
        """A loop device over the image, or over one of its partitions."""
        where = ["--offset", str(part.start), "--sizelimit", str(part.size)] if part else []
        mode = ["--read-only"] if read_only else []
        unit = ["--sector-size", str(sector_size)]
        device = call("losetup", "--find", "--show", *where, *mode, *unit, image).strip()
        try:
            yield device
        finally:
            call("losetup", "--detach", device)
            # The kernel puts it off while anybody looks at the device, such as another bsync.
            wait_until(lambda: not _backed_by(device, image), lambda: f"{device} stays attached")

    @contextlib.contextmanager
    def mounted(
        self, image: Path, part: Part | None = None, *, read_only: bool = False, options: str = ""
    ) -> Iterator[Path]:
        """The filesystem in the image, or in one of its partitions, mounted."""
        with self.attached(image, part, read_only=read_only) as device:
            target = self.folder / f"mnt-{Path(device).name}"
            target.mkdir()
            words = ",".join(filter(None, ("ro" if read_only else "rw", options)))
            call("mount", "-o", words, device, target)
            try:
                yield target
            finally:
                call("umount", target)
                target.rmdir()

    def make(self, image: Path, part: Part | None, *command: str) -> None:
        """Run e.g. `mke2fs -q …` on the image or on one of its partitions."""
        with self.attached(image, part) as device:
            call(*command, device)

    # --- bsync ----------------------------------------------------------------------------

    def bsync(self, *words: str | Path, status: int | None = 0, stdin: str | None = None) -> Run:
        """Run bsync, which has to end with `status`; None: with any that is no defect."""
        run = self._warm(["bsync", *self.engined(words)], stdin or "")
        assert "Traceback" not in run.err + run.out, run.err + run.out
        assert run.status != 70, run.err + run.out
        assert status in (None, run.status), f"{run.status}, not {status}:\n{run.out}{run.err}"
        return run

    def start(self, *words: str | Path, launcher: tuple[str, ...] = ("-m", "bsync")) -> Started:
        """Start bsync, and do not wait for it; `launcher` is what Python runs."""
        return subprocess.Popen(
            [sys.executable, *launcher, *self.engined(words)],
            env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, errors="surrogateescape",
        )  # fmt: skip

    def engined(self, words: Sequence[str | Path]) -> list[str]:
        """The words of a run, with this lab's engine if it plans and they name none."""
        given = [str(word) for word in words]
        if not self.engine or not given or given[0] in _ENGINELESS or "--engine" in given:
            return given
        return [*given, "--engine", self.engine]

    def faulty(self, point: str, count: int, signal: str, *words: str | Path) -> Run:
        """Run bsync under `faults`: the `count`th time at `point`, it gets `signal`."""
        driver = str(Path(__file__).with_name("faults.py"))
        run = self._warm([driver, point, str(count), signal, *self.engined(words)])
        assert "Traceback" not in run.err + run.out, run.err + run.out
        if run.status < 0:
            self._let_children_go()
        return run

    def _let_children_go(self) -> None:
        """Wait for what dies with a run that was killed, in a moment, if it does."""
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and any(
            what.startswith(("process", "loop")) for what in self.left()
        ):
            time.sleep(0.05)

    def _warm(self, words: list[str], stdin: str = "") -> Run:
        """A run whose start is spared."""
        given = stdin.encode(errors="surrogateescape")
        status, out, err = warm().run(words, self.environment, given)
        return Run(status, _text(out), _text(err))

    @contextlib.contextmanager
    def held(self, *words: str | Path) -> Iterator[Callable[[], Run]]:
        """A run of bsync that is stopped in the middle of its copy; calling what is given lets
        it go on to its end."""
        hold = self.folder / "hold"
        waiting = f"touch {hold}; while [ -e {hold} ]; do sleep 0.05; done"
        stand_in = self.stand_in("rsync", waiting, when="progress2")
        driver = str(Path(__file__).with_name("faults.py"))
        child = self.start(*words, launcher=(driver, f"hold:{hold}", "0", "KILL"))

        def go_on() -> Run:
            stand_in.unlink()
            hold.unlink()
            out, err = child.communicate(timeout=PATIENCE)
            return Run(child.returncode, out, err)

        try:
            wait_until(lambda: hold.exists() or child.poll() is not None, lambda: "no copy")
            assert child.poll() is None, child.communicate()
            yield go_on
        finally:
            child.terminate()
            child.communicate(timeout=PATIENCE)

    def loops_over(self, image: Path) -> list[str]:
        """The loop devices that stand on an image."""
        return [row["name"] for row in self._loops() if row["back-file"] == str(image)]

    def within(self, script: str) -> Run:
        """Run a shell script, in a mount namespace of its own; `{python}` is our Python."""
        result = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script.format(python=sys.executable)],
            env=self.environment, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL, timeout=PATIENCE,
        )  # fmt: skip
        assert "Traceback" not in result.stderr, result.stderr
        return Run(result.returncode, result.stdout, result.stderr)

    def impatient(self, *words: str | Path) -> Run:
        """Run bsync with little patience for what stays busy."""
        return self.faulty("impatient", 0, "KILL", *words)

    def stand_in(self, program: str, script: str, when: str = "") -> Path:
        """A shell script that runs in place of `program`, or before it if it ends well; only
        with arguments that have `when` in them."""
        self.programs.mkdir(exist_ok=True)
        path = self.programs / program
        path.write_text(
            f"""#!/bin/sh\ncase "$*" in *"{when}"*)\n{script}\nesac\nexec {which(program)} "$@"\n"""
        )
        path.chmod(0o755)
        return path

    # --- what must hold -------------------------------------------------------------------

    def left(self) -> list[str]:
        """Everything of bsync's that this lab's runs have not released yet, in any namespace."""
        found = [f"ledger {path.name}" for path in self.runtime.glob("*")]
        found += [f"loop {row}" for row in self._loops()]
        ours = str(self.folder).encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it ended meanwhile
                if ours in (process / "environ").read_bytes():
                    found.append(f"process {(process / 'cmdline').read_bytes()!r}")
                if ours in (process / "mountinfo").read_bytes():
                    found.append(f"mount seen by {process.name}")
        return found

    def _loops(self) -> list[dict[str, str]]:
        command = ("losetup", "--json", "--list", "--output", "NAME,BACK-FILE")
        rows = json.loads(call(*command) or "{}").get("loopdevices", [])
        ours = [row for row in rows if str(row["back-file"]).startswith(f"{self.folder}/")]
        below = [row["name"] for row in ours]  # one over an export carries others
        return ours + [row for row in rows if row["back-file"] in below]

    def assert_all_goes(self, but: str = "nothing") -> None:
        """Whatever is left, `but` for one kind, goes by itself, soon."""

        def staying() -> list[str]:
            return [what for what in self.left() if not what.startswith(but)]

        wait_until(lambda: not staying(), lambda: f"left behind: {staying()}")

    def assert_clean(self, image: Path, part: Part | None = None) -> None:
        """e2fsck -fn finds nothing on the filesystem."""
        with self.attached(image, part, read_only=True) as device:
            call("e2fsck", "-f", "-n", device)

    def assert_nothing_left(self) -> None:
        """No loop device, mount, process or ledger of bsync's that this lab knows of."""
        ours = self._loops()
        assert not ours, f"left attached: {ours}"
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(self.folder) not in mounts, f"left mounted: {mounts}"
        left = sorted(path.name for path in self.runtime.glob("*"))
        assert not left, f"ledgers left: {left}"
