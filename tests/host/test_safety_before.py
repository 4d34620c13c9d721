# SPDX-License-Identifier: GPL-2.0-only
"""No byte of the destination changes before the plan is complete and accepted."""

from __future__ import annotations

from pathlib import Path
from shutil import which

import pytest
from lab import MIB, Lab, Part, digest
from small_disks import BARE_SIZE, DISK_SIZE, TABLE, bare, copied, disk, filesystems, overwrite


@pytest.fixture
def precious(lab: Lab) -> Path:
    """A destination that somebody would miss."""
    image = lab.image("precious.img", DISK_SIZE)
    lab.make(image, None, "mke2fs", "-q", "-t", "ext4", "-L", "precious")
    with lab.mounted(image) as tree:
        (tree / "file").write_text("precious")
    return image


def test_a_plan_writes_nothing(lab: Lab, precious: Path) -> None:
    source, before = disk(lab), state(precious)
    plan = lab.bsync("plan", source, precious)
    dry = lab.bsync("--dry-run", "--yes", source, precious)
    assert plan.out == dry.out
    assert '"precious"' in plan.out
    assert state(precious) == before


def state(image: Path) -> tuple[str, int]:
    return digest(image), image.stat().st_mtime_ns


def test_what_nobody_confirmed_is_not_destroyed(lab: Lab, precious: Path) -> None:
    source, before = disk(lab), state(precious)
    run = lab.bsync(source, precious, status=3, stdin="yes\n")
    assert "not confirmed" in run.err
    assert "--yes" in run.err
    assert state(precious) == before
    lab.bsync("--yes", source, precious)
    lab.bsync("verify", source, precious)


def test_a_mirror_that_would_be_emptied_is_asked_for(lab: Lab) -> None:
    source, target = bare(lab, files=200), lab.image("target.img", BARE_SIZE)
    lab.bsync(source, target)
    before = state(target)
    with lab.mounted(source) as tree:
        for path in tree.glob("file-*"):
            path.unlink()
    run = lab.bsync(source, target, status=3)
    assert "199 of 204 files" in run.out
    assert state(target) == before
    lab.bsync("--yes", source, target)


def test_a_table_of_another_kind_is_asked_for(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", DISK_SIZE)
    lab.table(target, "label: gpt\nstart=2048, size=8192\n")
    before = state(target)
    run = lab.bsync(source, target, status=3)
    assert "gpt table" in run.out
    assert state(target) == before


@pytest.mark.parametrize(
    ("engine", "program"),
    [
        *(("files", name) for name in ("rsync", "mke2fs", "tune2fs", "mkswap", "wipefs", "blkid")),
        *(("blocks", name) for name in ("blkdiscard", "wipefs")),
    ],
)
def test_a_missing_program_is_missed_before_anything_is_written(
    lab: Lab, precious: Path, engine: str, program: str
) -> None:
    before = state(precious)
    assert_missed(lab, program, f"--yes --engine {engine} {disk(lab)} {precious}")
    assert state(precious) == before


@pytest.mark.parametrize("program", ["resize2fs", "tune2fs"])
def test_what_growing_needs_is_missed_before_anything_is_written(lab: Lab, program: str) -> None:
    source, target = bare(lab), lab.image("target.img", 2 * BARE_SIZE)
    before = state(target)
    assert_missed(lab, program, f"--engine blocks {source} {target}")
    assert state(target) == before


def assert_missed(lab: Lab, program: str, words: str) -> None:
    """Without the program bsync does nothing, and says what is missing."""
    hidden = which(program)
    assert hidden is not None
    # Bound over the program in a mount namespace of the run's own: a file nobody can run.
    hiding = f"mount --bind /dev/null {hidden}"
    run = lab.within(f"{hiding} && exec {{python}} -m bsync {words}")
    assert run.status == 4, run
    assert f"not installed: {program}" in run.err
    assert "apt-get install" in run.err


@pytest.mark.engine("files")
def test_a_filesystem_that_cannot_be_made_is_found_out_before(lab: Lab, precious: Path) -> None:
    source, before = disk(lab), state(precious)
    lab.stand_in("mke2fs", "echo 'mke2fs: no such feature' >&2; exit 1", when="-n -F")
    run = lab.bsync("--yes", source, precious, status=4)
    assert "no such feature" in run.err
    assert state(precious) == before


@pytest.mark.engine("files")
def test_a_source_that_cannot_be_mounted_is_found_out_before(lab: Lab, precious: Path) -> None:
    source, before = disk(lab), state(precious)
    lab.stand_in("mount", "echo 'mount: cannot do that' >&2; exit 32", when="--types")
    run = lab.bsync("--yes", source, precious, status=4)
    assert "cannot do that" in run.err
    assert state(precious) == before


@pytest.mark.parametrize("size", [MIB, 4 * MIB])
def test_a_destination_too_small_is_refused_with_both_figures(lab: Lab, size: int) -> None:
    source, target = disk(lab, files=60), lab.image("target.img", size)
    before = state(target)
    run = lab.bsync("--yes", source, target, status=3)
    assert "destination has" in run.err
    assert state(target) == before


def test_a_later_partition_that_does_not_fit_is_refused_before_the_first(lab: Lab) -> None:
    source, target = disk(lab, files=60), lab.image("target.img", DISK_SIZE)
    lab.table(target, TABLE.replace("size=16384", "size=4096"))
    before = state(target)
    lab.bsync("plan", source, target)  # the table of the source has room, so it is taken
    unknown = filesystems(lab, source)[1]
    assert isinstance(unknown, Part)
    overwrite(source, unknown.start, b"no superblock" * 1000)
    run = lab.bsync("--yes", source, target, status=3)
    assert "source (partition 5)" in run.err
    assert state(target) == before


def test_an_image_to_be_created_is_not_there_before_it_is_written(lab: Lab) -> None:
    source, target = bare(lab), lab.folder / "new.img"
    lab.bsync("plan", "--create", "16M", source, target)
    assert not target.exists()
    lab.bsync("--create", "1M", source, target, status=3)
    assert not target.exists()
    lab.bsync("--create", "16M", source, target)
    assert target.stat().st_size == 16 * MIB
    assert target.stat().st_blocks * 512 < 8 * MIB
    lab.bsync("verify", source, target)


def test_verify_writes_to_neither_side(lab: Lab) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    lab.bsync(source, target)
    before = state(source), state(target)
    lab.bsync("verify", source, target)
    lab.bsync("verify", copied(source, "other.img"), target)
    assert (state(source), state(target)) == before
