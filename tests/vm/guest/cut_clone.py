# SPDX-License-Identifier: GPL-2.0-only
"""The power goes in the middle of a clone; after it, the next run completes it."""

from __future__ import annotations

import json

import pytest
from rig import Rig
from small_disks import disk


def prepared(rig: Rig) -> tuple[str, str]:
    """A source with boot code and enough files for a copy to have a middle; a blank disk."""
    here, there = rig.disk(0), rig.disk(1)
    rig.put(disk(rig, files=80), here)
    return here, there


def completed(rig: Rig) -> None:
    """What has to hold in the next life, whenever the power went."""
    here, there = rig.inherited_disk(0), rig.inherited_disk(1)
    assert json.loads(rig.bsync("inspect", "--json", there).out)["incomplete"]
    assert "0 resources released" in rig.bsync("recover").out
    rig.bsync(here, there)
    rig.reread(there)
    for number in (1, 5):
        rig.assert_clean_device(f"{there}{number}")
    rig.assert_mirror(here, there)


@pytest.mark.engine("files")
def test_before_copying(rig: Rig) -> None:
    with rig.stopped("in-copy", 20, *prepared(rig)):
        rig.cut_power()


def test_after_copying(rig: Rig) -> None:
    completed(rig)


def test_before_completing(rig: Rig) -> None:
    """One filesystem is complete, its neighbour not yet."""
    here, there = prepared(rig)
    steps = [line for line in rig.bsync("plan", here, there).out.splitlines() if ". " in line]
    first = next(number for number, line in enumerate(steps, 1) if "complete" in line)
    with rig.stopped("after-step", first, here, there):
        rig.cut_power()


def test_after_completing(rig: Rig) -> None:
    completed(rig)


def test_before_synchronising(rig: Rig) -> None:
    """A good mirror is half-way to another state of the source."""
    here, there = prepared(rig)
    rig.bsync(here, there)
    rig.reread(here)
    with rig.mounted_device(f"{here}1") as tree:
        for number in range(40):
            (tree / f"file-{number:03}").write_text(f"changed {number}\n" * 3000)
    with rig.stopped("blocks:pwritev", 2, here, there):
        rig.cut_power()


def test_after_synchronising(rig: Rig) -> None:
    completed(rig)
