"""kill -9 at every point of a run: nothing of it remains, and its destination is not taken
for a mirror until it is one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from lab import Lab, Run, digest
from small_disks import bare, copied, disk, filesystems

LABEL = "bsync-incomplete"
KILLED = -9
NEVER = 400  # more points than any of these runs has


@dataclass(frozen=True)
class Case:
    """What is cloned, and what the destination holds at first."""

    source: Path
    before: Path
    words: tuple[str, ...] = ()


def blank(lab: Lab, source: Path) -> Case:
    return Case(source, lab.image("before.img", source.stat().st_size))


def changed_mirror(lab: Lab, source: Path) -> Case:
    """A mirror, and a source that is not any more what it mirrors."""
    before = lab.image("before.img", source.stat().st_size)
    lab.bsync(source, before)
    for part in filesystems(lab, source):
        with lab.mounted(source, part) as tree:
            (tree / "file-001").write_text("changed")
            (tree / "file-002").unlink()
            (tree / "new").write_text("new")
    return Case(source, before)


def sweep(lab: Lab, case: Case, point: str, counts: Iterable[int] = range(1, NEVER)) -> int:
    """Kill a run the first, second, … time it comes to `point`, until it comes to its end.

    Returns how many were killed.
    """
    kept = digest(case.source), case.source.stat().st_mtime_ns
    killed = 0
    for count in counts:
        target = copied(case.before, "target.img")
        run = lab.faulty(point, count, "KILL", *case.words, case.source, target)
        if run.status == 0:
            target.unlink()
            break
        assert run.status == KILLED, (point, count, run)
        try:
            aftermath(lab, case, target)
        except AssertionError as error:
            raise AssertionError(f"killed at {point} {count}: {error}\n{run.out}") from error
        assert kept == (digest(case.source), case.source.stat().st_mtime_ns)
        target.unlink()
        killed += 1
    return killed


def aftermath(lab: Lab, case: Case, target: Path) -> None:
    """What has to hold after any kill."""
    lab.bsync("recover")
    lab.assert_all_goes()
    if digest(target) != digest(case.before):
        assert_not_mistaken(lab, case.source, target)
    lab.bsync(*case.words, case.source, target)
    lab.bsync("verify", case.source, target)
    for part in filesystems(lab, target):
        lab.assert_clean(target, part)


def assert_not_mistaken(lab: Lab, source: Path, target: Path) -> None:
    """A destination that differs from its source says so itself."""
    verified = verify(lab, source, target)
    if verified.status == 0:
        return
    here, there = inspect(lab, source), inspect(lab, target)
    if here.get("boot_code") and there.get("table"):
        assert there["incomplete"], "a disk that boots is not marked incomplete"
        text = lab.bsync("inspect", target).out
        assert "INCOMPLETE CLONE" in text
    places = re.findall(r"^(?:partition (\d+)|the whole device): ", verified.out, re.MULTILINE)
    for number in {int(place or 0) for place in places}:
        one, other = content(here, number), content(there, number)
        if other.get("uuid") == one["uuid"] and one["kind"] != "swap":
            assert other["label"] == LABEL, f"partition {number} differs and is not marked"
    marked = [part for part in contents(there) if part.get("label") == LABEL]
    if all(part.get("uuid") in uuids(there) for part in contents(here)):
        assert marked or there.get("incomplete"), "all is in place, and nothing says incomplete"


def verify(lab: Lab, source: Path, target: Path) -> Run:
    child = lab.start("verify", source, target)
    out, err = child.communicate()
    assert child.returncode in (0, 6), (out, err)
    return Run(child.returncode, out, err)


def inspect(lab: Lab, image: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(lab.bsync("inspect", "--json", image).out)
    return data


def contents(side: dict[str, Any]) -> list[dict[str, Any]]:
    parts = side.get("partitions", [side])
    return [part["content"] for part in parts if "content" in part]


def uuids(side: dict[str, Any]) -> set[str]:
    return {part.get("uuid", "") for part in contents(side)}


def content(side: dict[str, Any], number: int) -> dict[str, Any]:
    for part in side.get("partitions", [{**side, "number": 0}]):
        if part["number"] == number:
            return dict(part["content"])
    return {}


# --- a bare filesystem: every point --------------------------------------------------------


@pytest.mark.parametrize("point", ["before-line", "after-line"])
def test_killed_at_every_line_of_the_ledger_of_a_first_clone(lab: Lab, point: str) -> None:
    assert sweep(lab, blank(lab, bare(lab)), point) >= 20


def test_killed_after_every_line_of_the_ledger_of_a_synchronisation(lab: Lab) -> None:
    assert sweep(lab, changed_mirror(lab, bare(lab)), "after-line") >= 20
