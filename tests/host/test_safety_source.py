# SPDX-License-Identifier: GPL-2.0-only
"""No byte of the source changes, whatever kind of run, and however it ends."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lab import MIB, Lab, call, digest
from small_disks import BARE_SIZE, DISK_SIZE, bare, copied, disk


def facts(image: Path) -> tuple[str, int, int]:
    """All that would change if somebody wrote to the image."""
    status = image.stat()
    return digest(image), status.st_mtime_ns, status.st_ctime_ns


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_every_kind_of_run_leaves_the_source_as_it_was(lab: Lab, kind: str) -> None:
    source, target = bare(lab, kind), lab.image("target.img", BARE_SIZE)
    before = facts(source)

    lab.bsync("inspect", source)
    lab.bsync("plan", source, target)
    lab.bsync("--dry-run", source, target)
    lab.bsync(source, target)
    lab.bsync("verify", source, target)
    lab.bsync("--checksum", source, target)
    lab.bsync("--engine", "raw", source, target)
    lab.bsync(source, lab.image("small.img", MIB), status=3)

    assert facts(source) == before


def test_a_disk_as_source_stays_as_it_was(lab: Lab) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    before = facts(source)
    lab.bsync(source, target)
    lab.bsync(source, target)
    lab.bsync("verify", source, target)
    assert facts(source) == before


def test_a_source_that_cannot_be_written_will_do(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with lab.attached(source, read_only=True) as device:
        lab.bsync(device, target)
    lab.bsync("verify", source, target)


def test_a_source_with_errors_is_refused_as_it_is(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    call("debugfs", "-w", "-R", "set_super_value state 2", source)
    before = facts(source), facts(target)
    run = lab.bsync(source, target, status=3)
    assert "needs a check" in run.err
    lab.bsync("verify", source, target, status=6)
    assert (facts(source), facts(target)) == before


@pytest.mark.parametrize("kind", ["ext3", "ext4"])
def test_a_journal_that_needs_recovery_is_not_recovered_on_the_source(lab: Lab, kind: str) -> None:
    source, target = cut_off(lab, kind), lab.image("target.img", BARE_SIZE)
    before = facts(source), facts(target)
    run = lab.bsync(source, target, status=3)
    assert "journal" in run.err
    assert "recovery" in run.err
    lab.bsync("inspect", source)
    lab.bsync("verify", source, target, status=6)
    assert (facts(source), facts(target)) == before


def cut_off(lab: Lab, kind: str) -> Path:
    """A filesystem whose machine lost its power: copied while mounted and written to."""
    running = bare(lab, kind, "running.img")
    with lab.mounted(running) as tree:
        (tree / "late").write_text("late")
        call("sync", "--file-system", tree)
        image = copied(running, "source.img")
    assert "needs_recovery" in call("dumpe2fs", "-h", image)
    return image


@pytest.mark.engine("files")
def test_a_run_that_fails_leaves_the_source_as_it_was(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    before = facts(source)
    lab.stand_in("rsync", "exit 23", when="progress2")
    lab.bsync(source, target, status=5)
    assert facts(source) == before


@pytest.mark.engine("files")
def test_the_loop_device_of_the_source_lets_no_write_through(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    before = facts(source)
    with lab.held(source, target):
        mode = {device: read_only(device) for device in lab.loops_over(source)}
        assert mode
        assert all(mode.values()), mode
        with pytest.raises(OSError, match=r"not permitted|denied"):
            write_to(next(iter(mode)))
        assert not any(read_only(device) for device in lab.loops_over(target))
    assert facts(source) == before


def read_only(device: str) -> bool:
    return call("blockdev", "--getro", device).strip() == "1"


def write_to(device: str) -> None:
    descriptor = os.open(device, os.O_WRONLY)
    try:
        os.write(descriptor, bytes(4096))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
