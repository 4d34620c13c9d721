# SPDX-License-Identifier: GPL-2.0-only
"""The exit status says in which stage a run failed, whatever code failed in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import MIB, Lab, call
from small_disks import BARE_SIZE, bare


def cloned(lab: Lab, *options: str) -> tuple[Path, Path]:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.bsync(*options, source, target)
    return source, target


def test_a_verification_that_cannot_be_made_is_no_failed_copy(lab: Lab) -> None:
    source, target = cloned(lab)
    lab.stand_in("rsync", "echo it is ill >&2; exit 23")
    failed = lab.bsync("verify", "--files", source, target, status=4).err
    assert "it is ill" in failed
    assert "incomplete" not in failed


def test_a_damaged_clone_is_a_difference(lab: Lab) -> None:
    source, target = cloned(lab)
    call("debugfs", "-w", "-R", "clri <11>", target)
    assert "damaged" in lab.bsync("verify", source, target, status=6).out


def test_a_difference_comes_with_what_mends_it(lab: Lab) -> None:
    source, target = cloned(lab, "--engine", "files")
    with lab.mounted(target) as tree:
        (tree / "file-001").write_text("not what the source has")
    hint = lab.bsync("verify", source, target, status=6).err
    assert f"bsync --checksum {source} {target} removes them" in hint
    lab.bsync("--checksum", "--engine", "files", source, target)
    lab.bsync("verify", source, target)


@pytest.mark.parametrize("command", ["plan", "inspect"])
def test_what_cannot_be_looked_at_is_no_failed_copy(lab: Lab, command: str) -> None:
    words = [bare(lab), lab.image("target.img", 16 * MIB)]
    lab.stand_in("blkid", "exit 77")
    lab.bsync(command, *(words if command == "plan" else words[:1]), status=4)


def test_once_something_was_written_it_is_a_failed_copy(lab: Lab) -> None:
    """Also where what cannot be had is wanted for the last look at the clone."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    written = lab.folder / "written"
    lab.stand_in("wipefs", f"touch {written}")
    lab.stand_in("blkid", f"[ ! -e {written} ] || exit 77")
    lab.bsync(source, target, status=5)
