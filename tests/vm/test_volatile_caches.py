# SPDX-License-Identifier: GPL-2.0-only
"""The power goes, and with it whatever the disk's own cache had not brought to the medium.

A guest makes clones, and logs what it writes; here the logs are played back up to a flush, and of
what came after it at random, which is what a disk may hold when its power goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from aftermath import Case, aftermath
from guest import disk, run, tail
from lab import Lab
from small_disks import copied
from write_log import Disk

GIB = 1 << 30
MODULE = "tests/vm/guest/logged_clones.py"
CUTS = 24  # of each log
SHARES = (0.5, 0.0, 0.9, 0.1)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the guest has kept, a folder for each clone."""
    folder = tmp_path_factory.mktemp("recordings")
    disks = [disk(folder / f"disk{number}.img", GIB) for number in range(2)]
    command = ["python3", "-m", "pytest", "-c", "pyproject.toml", "-p", "no:cacheprovider"]
    command += ["--confcutdir=tests/vm/guest", "--basetemp=/var/tmp/tests", "--color=no", MODULE]
    result = run(command, disks=disks, keep=folder / "out")
    assert result.status == 0, f"{result.output}\n{tail('console', result.log)}"
    for image in disks:
        image.unlink()
    return folder / "out"


def cuts(disk: Disk) -> Iterator[tuple[int, float]]:
    """An interval, and the share of its writes that arrive; spread over all of the run."""
    for number in range(CUTS):
        yield number * disk.intervals // CUTS, SHARES[number % len(SHARES)]


@pytest.mark.parametrize(
    "name", ["first-blocks", "first-files", "later-blocks", "later-files", "grown"]
)
def test_whatever_the_cache_lost(lab: Lab, recordings: Path, name: str) -> None:
    """No clone that is none can be taken for one, and the next run completes it unasked."""
    kept, lab.engine = recordings / name, name.partition("-")[2]
    case = Case(copied_here(lab, kept / "source.img"), copied_here(lab, kept / "before.img"))
    recorded, random = Disk(kept / "log"), Random(name)
    assert recorded.intervals > 4, "nothing was ever flushed"
    for interval, share in cuts(recorded):
        target = copied(case.before, "target.img")
        recorded.lose_power(target, interval, share, random)
        try:
            aftermath(lab, case, target)
        except AssertionError as error:
            moment = f"{share:.0%} after flush {interval} of {recorded.intervals - 1}"
            raise AssertionError(f"{moment}: {error}") from error
        target.unlink()


def copied_here(lab: Lab, image: Path) -> Path:
    copy = lab.folder / image.name
    copy.write_bytes(image.read_bytes())
    return copy
