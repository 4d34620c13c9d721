# SPDX-License-Identifier: GPL-2.0-only
"""Smaller, equal and full: whether the files fit is known beforehand, and what fits succeeds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import MIB, Lab, call
from trees import assert_same_tree

from bsync.filesystems.ext import make, superblock

pytestmark = pytest.mark.engine("files")

STEP = MIB // 4

Fill = Callable[[Path], None]


def small_files(top: Path) -> None:
    for number in range(1500):
        folder = top / f"folder-{number % 37}"
        folder.mkdir(exist_ok=True)
        (folder / f"file-{number}").write_bytes(os.urandom(number % 5000 + 1))


def one_large_file(top: Path) -> None:
    (top / "large").write_bytes(os.urandom(9 * MIB))


def folders(top: Path) -> None:
    for number in range(700):
        (top / f"a-{number % 20}" / f"b-{number}" / "c").mkdir(parents=True)


def long_names(top: Path) -> None:
    for number in range(1200):
        (top / f"{number:05}{'n' * 200}").symlink_to("t" * 150)


def nothing(top: Path) -> None:
    (top / "lonely").touch()


def fragmented(top: Path) -> None:
    """Many extents: every second block of a file."""
    with (top / "comb").open("wb") as file:
        for number in range(1500):
            file.seek(number * 8192)
            file.write(os.urandom(4096))


SOURCES: tuple[tuple[str, Fill, str, int], ...] = (
    ("small-files-ext4", small_files, "-t ext4 -N 4096", 24),
    ("small-files-ext4-4k", small_files, "-t ext4 -b 4096 -I 256 -N 4096", 40),
    ("small-files-ext2", small_files, "-t ext2 -b 1024 -I 128", 24),
    ("small-files-bigalloc", small_files, "-t ext4 -b 1024 -O bigalloc -C 4096 -N 4096", 40),
    ("large-file-ext4", one_large_file, "-t ext4", 24),
    ("large-file-ext3", one_large_file, "-t ext3 -b 1024", 24),
    ("folders-ext4", folders, "-t ext4 -N 4096 -b 4096 -O metadata_csum", 40),
    ("long-names-ext3", long_names, "-t ext3 -N 4096 -b 1024 -O dir_index", 24),
    ("nothing-ext4", nothing, "-t ext4", 64),
    ("nothing-ext2-meta-bg", nothing, "-t ext2 -b 1024 -O meta_bg,^resize_inode", 48),
    ("fragmented-no-extents", fragmented, "-t ext4 -O ^extent,^64bit -b 1024", 40),
)


def made(lab: Lab, fill: Fill, how: str, size: int) -> Path:
    top = lab.folder / "tree"
    top.mkdir()
    fill(top)
    source = lab.image("source.img", size)
    lab.make(source, None, "mke2fs", "-q", "-F", "-m", "1", "-d", str(top), *how.split())
    return source


def smallest(lab: Lab, source: Path) -> int:
    """The least size, to a step, that the plan takes."""
    parsed = superblock.parse(source.read_bytes()[superblock.OFFSET :][: superblock.SIZE])
    most = make.smallest(parsed)  # to a MiB
    low, high = most // STEP - MIB // STEP - 1, most // STEP
    while high - low > 1:
        middle = (low + high) // 2
        run = lab.bsync(
            "plan", source, lab.folder / "new.img", "--create", str(middle * STEP), status=None
        )
        assert run.status in (0, 3), run.err
        low, high = (low, middle) if run.status == 0 else (middle, high)
    return high * STEP


@pytest.mark.parametrize("source_", SOURCES, ids=[row[0] for row in SOURCES])
def test_what_the_plan_takes_fits_and_no_less(
    lab: Lab, source_: tuple[str, Fill, str, int]
) -> None:
    _, fill, how, size = source_
    source = made(lab, fill, how, size * MIB)
    least = smallest(lab, source)
    target = lab.image("target.img", least)
    lab.bsync(source, target)
    lab.assert_clean(target)
    assert_same_tree(lab, source, target)
    assert "0 files, 0 bytes" in lab.bsync(source, target).out

    less = lab.image("less.img", least - STEP)
    run = lab.bsync(source, less, status=3)
    assert "need" in run.err
    assert "the destination has" in run.err
    assert not less.read_bytes().strip(b"\0")


@pytest.mark.parametrize("how", ["-t ext4", "-t ext4 -b 4096", "-t ext2 -b 1024"])
def test_full_filesystem_fits_its_own_size(lab: Lab, how: str) -> None:
    source = lab.image("source.img", 24 * MIB)
    lab.make(source, None, "mke2fs", "-q", *how.split())
    with lab.mounted(source) as tree:
        for number in range(60):
            (tree / f"some-{number}").write_bytes(os.urandom(2000))
        call("dd", "if=/dev/urandom", f"of={tree}/rest", "bs=64k", "status=none", ok=(1,))
        facts = os.statvfs(tree)
        assert facts.f_bavail == 0
        assert facts.f_bfree * facts.f_frsize < MIB, "ext4 lets nobody have its last few blocks"
    target = lab.image("target.img", 24 * MIB)
    lab.bsync(source, target)
    lab.assert_clean(target)
    assert_same_tree(lab, source, target)
    assert inodes(lab, source) == inodes(lab, target)
    assert "0 files, 0 bytes" in lab.bsync(source, target).out


def inodes(lab: Lab, image: Path) -> str:
    with lab.attached(image, read_only=True) as device:
        lines = call("dumpe2fs", "-h", device).splitlines()
    return next(line for line in lines if line.startswith("Inode count:"))


def test_mirror_that_became_too_small_is_refused_beforehand(lab: Lab) -> None:
    source, target = lab.image("source.img", 48 * MIB), lab.image("target.img", 16 * MIB)
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4")
    lab.bsync(source, target)
    with lab.mounted(source) as tree:
        (tree / "large").write_bytes(os.urandom(20 * MIB))
    before = target.read_bytes()
    run = lab.bsync(source, target, status=3)
    assert "need" in run.err
    assert "the destination has 16 MiB" in run.err
    assert target.read_bytes() == before
