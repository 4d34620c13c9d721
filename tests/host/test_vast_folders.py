# SPDX-License-Identifier: GPL-2.0-only
"""Directories that are near the limit of what an index of two levels holds."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from lab import MIB, Lab, digest
from trees import assert_same_tree

from bsync.acquire.tree import Tree
from bsync.engines import files
from bsync.filesystems.ext.inodes import SpecialInodes
from bsync.model.layout import Filesystem

BOUND = 17_660  # names of 245 bytes on blocks of a KiB


def crowded(lab: Lab, names: int, *options: str) -> Path:
    """A filesystem with that many names in a folder; the kernel gets in more than rsync does, which
    makes temporary ones besides."""
    image = lab.image("source.img", 48 * MIB)
    made = ("mke2fs", "-q", "-t", "ext4", "-b", "1024", "-N", "20000", "-O", "^has_journal")
    lab.make(image, None, *made, "-I", "128", *options)
    with lab.mounted(image) as tree:
        (tree / "folder").mkdir()
        crowd(tree, range(names))
    return image


def crowd(tree: Path, numbers: range) -> None:
    for number in numbers:
        os.mknod(tree / "folder" / f"{number:0245}")


def test_more_names_than_are_sure_to_fit(lab: Lab) -> None:
    source, target = crowded(lab, 19_000), lab.image("target.img", 48 * MIB)
    said = "source (whole device): folder holds 19,000 names, and only 17,6"
    assert said in lab.bsync("--engine", "files", source, target, status=3).err
    assert not any(target.read_bytes())
    lab.bsync(source, target)
    assert_same_tree(lab, source, target)


def test_as_many_names_as_are_sure_to_fit(lab: Lab) -> None:
    source, target = crowded(lab, BOUND - 100), lab.image("target.img", 48 * MIB)
    lab.bsync("--engine", "files", source, target)
    assert_same_tree(lab, source, target)
    with lab.mounted(source) as tree:
        crowd(tree, range(BOUND - 100, BOUND + 500))
    before = digest(target)
    said = "source (whole device): folder holds 18,160 names, and only 17,6"
    assert said in lab.bsync("--engine", "files", source, target, status=3).err
    assert digest(target) == before


def test_an_index_of_three_levels(lab: Lab) -> None:
    source, target = crowded(lab, 19_000, "-O", "large_dir"), lab.image("target.img", 48 * MIB)
    lab.bsync("--engine", "files", source, target)
    assert_same_tree(lab, source, target)


@pytest.mark.parametrize(("held", "found"), [(5, False), (4, True), (0, True)])
def test_a_finished_clone_may_hold_more_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: int, found: bool
) -> None:
    """It is luck how many fit beyond those that are sure to."""
    kind = SimpleNamespace(most_names=lambda *_: 3)
    monkeypatch.setattr(files, "by_files", lambda _: kind)
    trees = []
    for side, count in (("source", 5), ("clone", held)):
        folder = tmp_path / side / "folder"
        folder.parent.mkdir()
        if count:
            folder.mkdir()
            for number in range(count):
                (folder / f"{number}").touch()
        vast = frozenset({folder.stat().st_ino}) if count else frozenset()
        trees.append(Tree(tmp_path / side, SpecialInodes({}, {}, frozenset(), vast=vast)))
    there = Filesystem("ext4", None)  # type: ignore[arg-type]
    assert files.overfull(trees[0], there) == (b"folder", 5, 3)
    assert bool(files.overfull(trees[0], there, trees[1])) == found
