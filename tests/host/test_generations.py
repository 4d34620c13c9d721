# SPDX-License-Identifier: GPL-2.0-only
"""Images that are written as a whole or not at all, and those that were there before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
from lab import MIB, Lab, call, digest
from small_disks import bare

ENGINES = pytest.mark.parametrize("engine", ["blocks", "files"])


@pytest.fixture
def room(lab: Lab) -> Iterator[Path]:
    """A folder whose files can share extents."""
    assert which("mkfs.xfs"), "apt-get install xfsprogs"
    image = lab.image("room.img", 512 * MIB)
    call("mkfs.xfs", "-q", "-m", "reflink=1", image)
    with lab.mounted(image) as top:
        yield top


def changed(lab: Lab, source: Path, text: str) -> None:
    with lab.mounted(source) as tree:
        (tree / "new").write_text(text)


@ENGINES
def test_generations_are_kept(lab: Lab, room: Path, engine: str) -> None:
    lab.engine = engine
    source, image = bare(lab), room / "clone.img"
    lab.bsync("--create", "64M", source, image)
    seen = [digest(image)]
    for number in range(4):
        changed(lab, source, f"generation {number}")
        lab.bsync("--keep", "2", source, image)
        lab.bsync("verify", source, image)
        seen.append(digest(image))
    kept = [digest(room / f"clone.img.{number}") for number in (1, 2)]
    assert kept == [seen[-2], seen[-3]]
    assert sorted(path.name for path in room.iterdir()) == [
        "clone.img", "clone.img.1", "clone.img.2"
    ]  # fmt: skip
    assert "shared" in call("filefrag", "-v", room / "clone.img.1")


@ENGINES
@pytest.mark.parametrize("ending", ["KILL", "TERM"])
def test_what_ends_too_early_leaves_the_last_good_image(
    lab: Lab, room: Path, engine: str, ending: str
) -> None:
    lab.engine = engine
    source, image = bare(lab), room / "clone.img"
    lab.bsync("--create", "64M", source, image)
    before = digest(image)
    changed(lab, source, "more")
    run = lab.faulty("after-step", 1, ending, "--transaction", source, image)
    assert run.status in (-9, 143), run
    assert digest(image) == before
    lab.bsync("recover")
    assert [path.name for path in room.iterdir()] == ["clone.img"]
    (room / ".clone.img.bsync-of-a-run-before-the-power-went").write_bytes(b"x")
    lab.bsync("--transaction", source, image)
    lab.bsync("verify", source, image)
    assert [path.name for path in room.iterdir()] == ["clone.img"]


def test_a_failure_leaves_nothing_to_complete(lab: Lab, room: Path) -> None:
    lab.engine = "files"
    source, image = bare(lab), room / "clone.img"
    lab.bsync("--create", "64M", source, image)
    before = digest(image)
    changed(lab, source, "more")
    lab.stand_in("rsync", "exit 5", when="progress2")
    run = lab.bsync("--transaction", source, image, status=5)
    assert "incomplete" not in run.err
    assert digest(image) == before


def test_a_filesystem_that_shares_nothing_says_so(lab: Lab) -> None:
    source, image = bare(lab), lab.image("clone.img", 64 * MIB)
    run = lab.bsync("--transaction", source, image, status=3)
    assert "cannot share extents" in run.err
    assert "XFS and btrfs can" in run.err
    assert not image.read_bytes().strip(b"\0")
    assert not list(lab.folder.glob(".clone*"))


def test_it_is_for_image_files(lab: Lab) -> None:
    source, target = bare(lab), lab.image("clone.img", 64 * MIB)
    assert "image files" in lab.bsync("--transaction", source, "/dev/null", status=2).err
    missing = lab.folder / "missing.img"
    assert "--create" in lab.bsync("--transaction", source, missing, status=4).err
    new = lab.bsync("--transaction", "--create", "64M", source, missing, status=2)
    assert "needs no --transaction" in new.err
    assert "same storage" in lab.bsync("--transaction", target, target, status=3).err
