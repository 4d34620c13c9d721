"""Real disks to test on: image files, loop devices, filesystems, and the command itself.

Everything a `Lab` attaches or mounts is released at the end of its test, and nothing of
bsync's may be left by then.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
SECTOR = 512


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


class Lab:
    """A directory for images, and a runtime directory of its own for bsync."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = folder / "run"
        self.environment = {**os.environ, "BSYNC_RUNTIME_DIR": str(self.runtime)}
        self.environment.pop("BSYNC_DEBUG", None)

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
        table = json.loads(call("sfdisk", "--json", image))["partitiontable"]
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
        self, image: Path, part: Part | None = None, *, read_only: bool = False
    ) -> Iterator[str]:
        """A loop device over the image, or over one of its partitions."""
        where = ["--offset", str(part.start), "--sizelimit", str(part.size)] if part else []
        mode = ["--read-only"] if read_only else []
        device = call("losetup", "--find", "--show", *where, *mode, image).strip()
        try:
            yield device
        finally:
            call("losetup", "--detach", device)

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

    def bsync(self, *words: str | Path, status: int = 0, stdin: str | None = None) -> Run:
        """Run bsync, which has to end with `status`."""
        result = subprocess.run(
            [sys.executable, "-m", "bsync", *map(str, words)],
            env=self.environment, capture_output=True, text=True, check=False,
            input=stdin, errors="surrogateescape",
        )  # fmt: skip
        run = Run(result.returncode, result.stdout, result.stderr)
        assert "Traceback" not in run.err + run.out, run.err + run.out
        assert run.status == status, f"status {run.status}, not {status}:\n{run.out}{run.err}"
        return run

    # --- what must hold -------------------------------------------------------------------

    def assert_clean(self, image: Path, part: Part | None = None) -> None:
        """e2fsck -fn finds nothing on the filesystem."""
        with self.attached(image, part, read_only=True) as device:
            call("e2fsck", "-f", "-n", device)

    def assert_nothing_left(self) -> None:
        """No loop device, mount, process or ledger of bsync's that this lab knows of."""
        loops = json.loads(call("losetup", "--json", "--list", "--output", "NAME,BACK-FILE") or "{}")
        ours = [
            row for row in loops.get("loopdevices", [])
            if str(row.get("back-file", "")).startswith(str(self.folder))
        ]  # fmt: skip
        assert not ours, f"left attached: {ours}"
        mounts = Path("/proc/self/mountinfo").read_text()
        assert str(self.folder) not in mounts, f"left mounted: {mounts}"
        left = sorted(path.name for path in self.runtime.glob("*") if path.name != "lock")
        assert not left, f"ledgers left: {left}"
