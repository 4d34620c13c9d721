# SPDX-License-Identifier: GPL-2.0-only
"""Runs at the same time do not disturb each other; a run that is alive is nobody's orphan."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lab import PATIENCE, Lab, digest
from small_disks import BARE_SIZE, DISK_SIZE, bare, disk


def test_many_runs_at_once(lab: Lab) -> None:
    """They contend for loop devices, and share a directory of ledgers."""
    pairs = []
    for number in range(6):
        source = bare(lab, ("ext4", "ext2")[number % 2], f"source-{number}.img")
        pairs.append((source, lab.image(f"target-{number}.img", BARE_SIZE)))
    children = [lab.start(*pair) for pair in pairs]
    for child in children:
        out, err = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0, out + err
        assert not err
        assert "released what an earlier run left" not in out
    assert not lab.left()
    for pair in pairs:
        lab.bsync("verify", *pair)


def test_one_source_onto_several_at_once(lab: Lab) -> None:
    source = disk(lab)
    targets = [lab.image(f"target-{number}.img", DISK_SIZE) for number in range(3)]
    children = [lab.start(source, target) for target in targets]
    for child in children:
        out, err = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0, out + err
    for target in targets:
        lab.bsync("verify", source, target)


@pytest.mark.engine("files")
def test_recover_leaves_a_living_run_alone(lab: Lab) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    with lab.held(source, target) as go_on:
        before = sorted(lab.loops_over(source) + lab.loops_over(target))
        assert "0 resources" in lab.bsync("recover").out
        other = bare(lab, name="other.img")
        child = lab.start(other, lab.image("other-target.img", BARE_SIZE), "--dry-run")
        child.communicate()
        assert sorted(lab.loops_over(source) + lab.loops_over(target)) == before
        run = go_on()
        assert run.status == 0, run
    lab.bsync("verify", source, target)


@pytest.mark.engine("files")
def test_recover_of_one_that_died_leaves_the_living_alone(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.faulty("after-line", 6, "KILL", bare(lab, name="a.img"), lab.image("b.img", BARE_SIZE))
    with lab.held(source, target) as go_on:
        # That it started, it released what the dead one had.
        ledgers = [path for path in lab.runtime.iterdir() if path.is_dir()]
        assert len(ledgers) == 1
        assert go_on().status == 0
    lab.bsync("verify", source, target)


def test_loops_and_mounts_of_others_are_left_alone(lab: Lab) -> None:
    """One device of somebody else's, where a dead run had one of its own."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    folder = lab.runtime / "20200101T000000-00000000"
    folder.mkdir(parents=True)
    other = bare(lab, name="other.img")
    with lab.mounted(other) as tree:
        device = lab.loops_over(other)[0]
        (folder / "ledger").write_text(
            '{"entry": 1, "event": "acquire", "kind": "loop", "facts": '
            f'{{"device": "{device}", "reference": "bsync:{folder.name}"}}}}\n'
        )
        lab.bsync("recover")
        assert lab.loops_over(other) == [device]
        assert (tree / "file-000").exists()
        lab.bsync(source, target)
        assert lab.loops_over(other) == [device]


def test_a_directory_with_something_in_it_is_never_emptied(lab: Lab) -> None:
    folder = lab.runtime / "20200101T000000-00000000"
    precious = folder / "destination-3-0" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("precious")
    (folder / "ledger").write_text(
        '{"entry": 1, "event": "acquire", "kind": "directory", "facts": '
        f'{{"path": "{precious.parent}"}}}}\n'
    )
    lab.bsync("recover", status=7)
    assert precious.read_text() == "precious"
    precious.unlink()
    lab.bsync("recover")


# --- the second run -------------------------------------------------------------------------


def test_a_second_run_transfers_nothing(lab: Lab) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    lab.bsync(source, target)
    files = contents(lab, target)
    run = lab.bsync(source, target)
    assert "done: 0 files, 0 bytes transferred" in run.out
    assert contents(lab, target) == files


def test_a_second_raw_run_writes_nothing(lab: Lab) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    lab.bsync("--engine", "raw", source, target)
    before = digest(target)
    run = lab.bsync("--engine", "raw", source, target)
    assert "0 bytes transferred" in run.out
    assert digest(target) == before


def contents(lab: Lab, image: Path) -> dict[str, tuple[int, int]]:
    """Inode and time of change of every file: what is written anew has others."""
    found = {}
    for part in lab.partitions(image):
        if part.type == "83":
            with lab.mounted(image, part, read_only=True) as tree:
                for path in tree.rglob("*"):
                    status = os.lstat(path)
                    name = f"{part.number}/{path.relative_to(tree)}"
                    found[name] = (status.st_ino, status.st_ctime_ns)
    return found
