# SPDX-License-Identifier: GPL-2.0-only
"""What --debug and BSYNC_DEBUG show."""

from __future__ import annotations

import subprocess

from lab import Lab
from small_disks import BARE_SIZE, bare


def shown(err: str) -> list[str]:
    """The commands that a run has shown."""
    return [line.removeprefix("+ ") for line in err.splitlines() if line.startswith("+ ")]


def test_every_command_is_shown_ready_to_be_run_again(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    run = lab.bsync("--debug", "--engine", "files", source, target)
    commands = shown(run.err)
    programs = " ".join(commands)
    assert all(word in programs for word in ("mke2fs", "tune2fs", "rsync", "umount", "e2fsck"))
    assert all(("# status" in line and line.endswith(" s")) or "input" in line for line in commands)
    looked = [line for line in commands if "blkid" in line and str(source) in line]
    assert subprocess.run(["sh", "-c", looked[0]], capture_output=True, check=False).returncode == 0
    assert not shown(lab.bsync("--engine", "files", source, target).err)


def test_a_command_that_failed_is_shown_with_its_complaint(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.stand_in("rsync", "echo no such luck >&2; exit 23", when="progress2")
    lab.environment["BSYNC_DEBUG"] = "1"
    run = lab.bsync("--engine", "files", source, target, status=5)
    assert "# status 23" in run.err
    assert "#   no such luck" in run.err
