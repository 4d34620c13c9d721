# SPDX-License-Identifier: GPL-2.0-only
"""The power goes, and with it whatever the disk's own cache had not brought to the medium.

A guest makes clones, and logs what it writes; here the logs are played back up to a flush, and of
what came after it at random, which is what a disk may hold when its power goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from aftermath import Case, aftermath
from guest import PYTEST, disk, run, tail
from lab import Lab, digest
from small_disks import copied
from write_log import Disk

GIB = 1 << 30
MODULE = "tests/vm/guest/logged_clones.py"
CUTS = 16  # of each log
CASES = [
    f"{case}-{engine}" for case in ("first", "later", "other") for engine in ("blocks", "files")
]
pytestmark = pytest.mark.xdist_group("recordings")  # which are made once
SHARES = (0.5, 0.0, 0.9, 0.1)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the guest has kept, a folder for each clone."""
    folder = tmp_path_factory.mktemp("recordings")
    disks = [disk(folder / f"disk{number}.img", GIB) for number in range(2)]
    result = run([*PYTEST, MODULE], disks=disks, keep=folder / "out")
    assert result.status == 0, f"{result.output}\n{tail('console', result.log)}"
    for image in disks:
        image.unlink()
    return folder / "out"


def cuts(disk: Disk) -> Iterator[tuple[int, float]]:
    """An interval, and the share of its writes that arrive; spread over all of the run."""
    for number in range(CUTS):
        yield number * disk.intervals // CUTS, SHARES[number % len(SHARES)]


@pytest.mark.parametrize("name", [*CASES, "grown"])
def test_whatever_the_cache_lost(lab: Lab, recordings: Path, name: str) -> None:
    """No clone that is none can be taken for one, and the next run completes it unasked."""
    lab.engine = name.partition("-")[2]
    every_cut(lab, recordings / name, aftermath)


@pytest.mark.parametrize("name", ["first-raw", "later-raw", "later-raw-beginning"])
def test_whatever_the_cache_lost_of_a_raw_copy(lab: Lab, recordings: Path, name: str) -> None:
    every_cut(lab, recordings / name, raw_aftermath)


def every_cut(lab: Lab, kept: Path, check: Callable[[Lab, Case, Path], None]) -> None:
    words = ("--yes",) if kept.name.startswith("other") else ()
    case = Case(copied_here(lab, kept / "source.img"), copied_here(lab, kept / "before.img"), words)
    recorded, random = Disk(kept / "log"), Random(kept.name)
    assert recorded.intervals > 3, "nothing was flushed"
    for interval, share in cuts(recorded):
        target = copied(case.before, "target.img")
        recorded.lose_power(target, interval, share, random)
        try:
            check(lab, case, target)
        except AssertionError as error:
            moment = f"{share:.0%} after flush {interval} of {recorded.intervals - 1}"
            raise AssertionError(f"{moment}: {error}") from error
        target.unlink()


def raw_aftermath(lab: Lab, case: Case, target: Path) -> None:
    """It is what it was, or what it is to be, or says that it is neither."""
    if digest(target) not in (digest(case.before), digest(case.source)):
        assert "an incomplete clone" in lab.bsync("inspect", target).out
    lab.bsync("--engine", "raw", case.source, target)
    assert digest(target) == digest(case.source)


def copied_here(lab: Lab, image: Path) -> Path:
    copy = lab.folder / image.name
    copy.write_bytes(image.read_bytes())
    return copy
