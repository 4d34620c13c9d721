# SPDX-License-Identifier: GPL-2.0-only
"""kill -9 while something is being made on a destination: the next run completes it unasked,
since nothing is lost with what is there."""

from __future__ import annotations

import os
from pathlib import Path
from shutil import which

import pytest
from aftermath import inspect
from lab import MIB, Lab, Part, call, digest
from small_disks import BARE_SIZE, bare, overwrite

pytestmark = pytest.mark.engine("files")

BEGUN = "an incomplete clone"
KILLED = -9
# The destination's loop device is the word before the last; the parent is bsync.
DEVICE = 'for word; do device=$before; before=$word; done; kill_bsync() { kill -9 "$PPID"; exit; }'


def completed(lab: Lab, source: Path, target: Path, part: Part | None = None) -> None:
    """The next run needs no --yes."""
    lab.assert_all_goes(but="ledger")
    lab.bsync(source, target)
    lab.bsync("verify", source, target)
    lab.assert_clean(target, part)


def test_killed_when_all_but_the_superblock_is_written(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    erase = 'dd if=/dev/zero of="$device" bs=1024 seek=1 count=1 conv=notrunc status=none'
    cut = f'{DEVICE}; {which("mke2fs")} "$@" && {erase} && kill_bsync'
    mke2fs = lab.stand_in("mke2fs", cut, when="/dev/loop")
    assert lab.start(source, target).wait() == KILLED
    mke2fs.unlink()

    assert inspect(lab, target)["content"]["kind"] == BEGUN
    planned = lab.bsync("plan", source, target).out
    assert "the destination was being made" in planned
    assert "This will destroy" not in planned
    completed(lab, source, target)
    assert target.read_bytes()[:1024] == bytes(1024)


def test_killed_before_what_mke2fs_wrote_is_known_to_be_on_the_disk(lab: Lab) -> None:
    """The superblock may be there, and all else missing, after a power cut."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    tune2fs = lab.stand_in("tune2fs", 'kill -9 "$PPID"; exit', when="-L bsync-incomplete")
    assert lab.start(source, target).wait() == KILLED
    tune2fs.unlink()

    assert inspect(lab, target)["content"]["kind"] == BEGUN
    completed(lab, source, target)


@pytest.mark.parametrize("kind", ["ext2", "ext4"])
def test_killed_at_many_moments_of_mke2fs(lab: Lab, kind: str) -> None:
    source = bare(lab, kind)
    seen = set()
    for moment in range(16):
        target = lab.image(f"target-{moment}.img", BARE_SIZE)
        run = lab.faulty("soon:mke2fs", moment, "KILL", source, target)
        assert run.status == KILLED, run
        lab.assert_all_goes(but="ledger")
        seen.add(inspect(lab, target)["content"]["kind"])
        completed(lab, source, target)
        target.unlink()
    assert seen <= {"nothing", BEGUN, kind}
    assert BEGUN in seen


def test_killed_in_the_middle_of_a_raw_copy(lab: Lab) -> None:
    source, target = bare(lab, "ext4"), lab.image("target.img", BARE_SIZE)
    overwrite(source, BARE_SIZE - 4096, b"at the end")
    run = lab.faulty("before-write", 3, "KILL", "--engine", "raw", source, target)
    assert run.status == KILLED, run
    assert inspect(lab, target)["content"]["kind"] == BEGUN
    lab.bsync("--engine", "raw", source, target)
    assert digest(source) == digest(target)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_killed_between_the_records_of_a_gpt(lab: Lab, count: int) -> None:
    """The second copy comes first, so that for a moment it stands there alone."""
    source, target = lab.image("source.img", 64 * MIB), lab.image("target.img", 64 * MIB)
    (part,) = lab.table(source, "label: gpt\nsize=48MiB\n")
    lab.make(source, part, "mke2fs", "-q", "-t", "ext4")
    run = lab.faulty("before-write", count, "KILL", source, target)
    assert run.status == KILLED, run
    assert inspect(lab, target)["content"]["kind"] == BEGUN
    completed(lab, source, target, part)


def test_killed_while_a_mirror_grows(lab: Lab) -> None:
    """What resize2fs leaves half-way is not for e2fsck to mend: it is made anew."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.bsync(source, target)
    for image in (source, target):
        os.truncate(image, 4 * BARE_SIZE)
    with lab.attached(source) as device:
        call("e2fsck", "-f", "-p", device, ok=(0, 1))
        call("resize2fs", device)
    with lab.mounted(source) as tree:
        (tree / "large").write_bytes(bytes(range(256)) * (BARE_SIZE // 256))
    cut = lab.stand_in("resize2fs", 'kill -9 "$PPID"; exit', when="/dev/loop")
    assert lab.start(source, target).wait() == KILLED
    cut.unlink()
    assert inspect(lab, target)["content"]["kind"] == BEGUN
    completed(lab, source, target)
