# SPDX-License-Identifier: GPL-2.0-only
"""What has to hold after a run was cut off, whatever cut it off."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import Lab, Run, digest
from small_disks import filesystems

LABEL = "bsync-incomplete"


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


def aftermath(lab: Lab, case: Case, target: Path) -> None:
    """What has to hold after any kill."""
    lab.bsync("recover")
    lab.assert_all_goes()
    if digest(target) == digest(case.before):
        return  # nothing happened to it, so nothing has to be made good
    assert_not_mistaken(lab, case, target)
    lab.bsync(*case.words, case.source, target)
    lab.bsync("verify", case.source, target)
    for part in filesystems(lab, target):
        lab.assert_clean(target, part)


def assert_not_mistaken(lab: Lab, case: Case, target: Path) -> None:
    """A destination that differs from its source says so itself."""
    verified = verify(lab, case.source, target)
    if verified.status == 0:
        return
    here, there = inspect(lab, case.source), inspect(lab, target)
    if here.get("boot_code") and there.get("table"):
        assert there["incomplete"], "a disk that boots is not marked incomplete"
        text = lab.bsync("inspect", target).out
        assert "INCOMPLETE CLONE" in text
    places = re.findall(
        r"^(?:partition (\d+)|whole device): (?!compare)", verified.out, re.MULTILINE
    )
    for number in {int(place or 0) for place in places}:
        one, other = content(here, number), content(there, number)
        if other.get("uuid") == one["uuid"] and one["kind"] != "swap":
            untouched = region(target, there, number) == region(case.before, there, number)
            marked = other["label"] == LABEL
            assert marked or untouched, f"partition {number} differs and is not marked"
    labels = {part.get("label") for part in contents(there)}
    if all(part.get("uuid") in uuids(there) for part in contents(here)):
        assert LABEL in labels or there.get("incomplete"), "in place, and not said to be incomplete"


def verify(lab: Lab, source: Path, target: Path) -> Run:
    run = lab.bsync("verify", source, target, status=None)
    assert run.status in (0, 6), run
    return run


def inspect(lab: Lab, image: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(lab.bsync("inspect", "--json", image).out)
    return data


def contents(side: dict[str, Any]) -> list[dict[str, Any]]:
    parts = side.get("partitions", [side])
    return [part["content"] for part in parts if "content" in part]


def uuids(side: dict[str, Any]) -> set[str]:
    return {part.get("uuid", "") for part in contents(side)}


def region(image: Path, side: dict[str, Any], number: int) -> bytes:
    """The bytes of a partition, or of the whole image."""
    places = {part["number"]: (part["start"], part["size"]) for part in side.get("partitions", [])}
    start, size = places.get(number, (0, side["size"]))
    with image.open("rb") as file:
        file.seek(start)
        return file.read(size)


def content(side: dict[str, Any], number: int) -> dict[str, Any]:
    for part in side.get("partitions", [{**side, "number": 0}]):
        if part["number"] == number:
            return dict(part["content"])
    return {}
