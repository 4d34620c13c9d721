# SPDX-License-Identifier: GPL-2.0-only
"""Every module of guest/ in a machine, which those of `TOGETHER` share: a boot, an import of pytest
and one of bsync cost half a minute under emulation.

`test_*.py` is a module of ordinary tests.  In `cut_*.py` they come in pairs: test_before_NAME
ends with `rig.cut_power()`, and test_after_NAME runs in the next life of the same disks; in that
life the next pair begins.

BSYNC_VM_TEST (`make test-vm TEST=…`) has those run alone that have it in their name, or in
that of their module.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import machine
import pytest
from debian_disk import HOME, ROOT, debian_disk
from debian_disk import MARKER as BOOTED
from guest import CUT, PYTEST, GuestFailed, Result, disk, run, tail

GIB = 1 << 30
FOLDER = "tests/vm/guest"
MODULES = Path(__file__).with_name("guest")
WANTED = os.environ.get("BSYNC_VM_TEST", "")
TIMEOUT = 1800.0
MARKER = "=== the power is cut here ==="
WITH_DEBIAN = ("test_usage",)  # modules whose guest has a bootable disk, disk3
# Those that take longest come first.  What has a disk booted in the end is the last to write to it.
TOGETHER = (
    ("test_iscsi",),
    ("test_iscsi_faults", "test_iscsi_user"),
    ("test_reiserfs", "test_usage"),
    ("test_lvm", "test_lvm_layouts"),
    ("test_devices", "test_partitions", "test_foreign", "test_rig", "test_systemd"),
)


# --- what there is to run ---------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """The two tests of a name in a module: before the power is cut, and after."""

    module: str
    name: str

    def test(self, when: str) -> str:
        return f"{FOLDER}/{self.module}.py::test_{when}_{self.name}"


@dataclass(frozen=True)
class Job:
    """Modules that share a machine, or pairs of tests whose machine loses its power."""

    modules: tuple[str, ...] = ()
    pairs: tuple[Pair, ...] = ()

    def __str__(self) -> str:
        return "+".join(self.modules) or "power-cuts"


def names_in(module: Path) -> list[str]:
    """The names of the tests of a module, which cannot be imported on the host."""
    found = (node for node in ast.parse(module.read_text()).body)
    names = [node.name for node in found if isinstance(node, ast.FunctionDef)]
    return [name for name in names if name.startswith("test_")]


def wanted(*names: str) -> bool:
    words = [word for word in re.findall(r"\w+", WANTED) if word not in ("and", "or", "not")]
    return not words or any(word in name for word in words for name in names)


def modules(pattern: str) -> dict[str, list[str]]:
    """The modules that are wanted, and the names of their tests."""
    found = {module.stem: names_in(module) for module in sorted(MODULES.glob(pattern))}
    return {module: names for module, names in found.items() if wanted(module, *names)}


def jobs() -> Iterator[Job]:
    pairs = [
        Pair(module, name.removeprefix("test_before_"))
        for module, names in modules("cut_*.py").items()
        for name in names
        if name.startswith("test_before_") and wanted(module, name)
    ]
    if pairs:
        yield Job(pairs=tuple(pairs))
    found = modules("test_*.py")
    known = {module for group in TOGETHER for module in group}
    for group in (*TOGETHER, *((module,) for module in found if module not in known)):
        if shared := tuple(module for module in group if module in found):
            yield Job(shared)


JOBS = list(jobs())
assert JOBS, f"no test of {FOLDER} has {WANTED!r} in its name"


# --- running it -------------------------------------------------------------------------------


class Failed(Exception):
    """Something is wrong with the tests in a guest; the text tells all of it."""


@dataclass(frozen=True)
class Bench:
    """A place for the disks and the results of one job."""

    folder: Path

    def run(self, job: Job) -> str:
        """The output of the guest's pytest.  Raises `Failed`, `GuestFailed`."""
        disks = [disk(self.folder / f"disk{number}.img", GIB) for number in range(3)]
        if job.pairs:
            return self._cut(disks, job.pairs)
        if set(job.modules) & set(WITH_DEBIAN):
            disks.append(self.folder / "disk3.img")
            subprocess.run(["cp", "--sparse=always", debian_disk(), disks[3]], check=True)
            disks[3].chmod(0o600)
        choice = ["-k", WANTED] if WANTED else []
        paths = [f"{FOLDER}/{module}.py" for module in job.modules]
        output = self._passed(self._pytest(disks, *paths, *choice))
        self._boot(disks)
        return output

    def _cut(self, disks: Sequence[Path], pairs: Sequence[Pair]) -> str:
        """Cut the power once for each pair."""
        output = ""
        after: list[str] = []
        for pair in pairs:
            life = self._pytest(disks, "-x", *after, pair.test("before"), cut=MARKER)
            if life.status != CUT or (after and "PASSED" not in life.output):
                raise failed("a test ended before its power was cut", life)
            output += life.output
            after = [pair.test("after")]
        return output + self._passed(self._pytest(disks, *after))

    def _boot(self, disks: Sequence[Path]) -> None:
        """Start from the disks that the guest's tests have named.  Raises `Failed`."""
        named = self.folder / "out/boots"
        for number in named.read_text().split() if named.exists() else []:
            try:
                said = machine.boot(disks[int(number)])
            except machine.BootFailed as error:
                raise Failed(str(error)) from None
            if f"{BOOTED} root={ROOT.uuid} home={HOME.uuid} swap=yes" not in said:
                raise Failed(f"disk{number} booted without all of its filesystems:\n{said}")

    def _pytest(self, disks: Sequence[Path], *words: str, cut: str = "") -> Result:
        command = [
            *("env", f"BSYNC_POWER_CUT={cut}", *PYTEST),
            *("--junit-xml=/out/results.xml", "--durations=10", "-v"),
            *(["--capture=no"] if cut else []),
            *words,
        ]
        out = self.folder / "out"
        return run(command, disks=disks, timeout=TIMEOUT, keep=out, cut_power_at=cut)

    def _passed(self, result: Result) -> str:
        """All of them, and at least one: nothing is skipped where everything is there."""
        if result.status != 0:
            raise failed(f"pytest in the guest ended with status {result.status}", result)
        suite = ElementTree.parse(self.folder / "out/results.xml").find("testsuite")
        assert suite is not None
        count, skipped = int(suite.get("tests", 0)), int(suite.get("skipped", 0))
        if not count or skipped:
            raise failed(f"{skipped} of {count} tests in the guest were skipped", result)
        return result.output


def failed(reason: str, result: Result) -> Failed:
    return Failed("\n".join([reason, result.output, tail("console", result.log)]))


@pytest.mark.parametrize("job", JOBS, ids=str)
def test_in_a_guest(job: Job, tmp_path: Path) -> None:
    try:
        print(Bench(tmp_path).run(job))
    except (Failed, GuestFailed) as error:
        pytest.fail(str(error), pytrace=False)
