# SPDX-License-Identifier: GPL-2.0-only
"""What SRC and DEST may be called, and --create."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import MIB, Lab
from trees import assert_same_tree


def made(lab: Lab, name: str = "source.img") -> Path:
    source = lab.image(name, 12 * MIB)
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4", "-L", "data")
    with lab.mounted(source) as tree:
        (tree / "file").write_text("contents")
    return source


def test_image_files_by_every_word(lab: Lab) -> None:
    source = made(lab)
    words: tuple[Callable[[Path], str], ...] = (
        str,
        os.path.relpath,
        lambda path: f"loop://{path}",
        lambda path: f"loop://{os.path.relpath(path)}",
    )
    for number, word in enumerate(words):
        target = lab.image(f"target-{number}.img", 12 * MIB)
        assert "done: 0 files" not in lab.bsync(word(source), word(target)).out
        assert_same_tree(lab, source, target)
        assert "identical" in lab.bsync("verify", word(source), word(target)).out


def test_names_that_look_like_other_things(lab: Lab) -> None:
    source = made(lab, "-p source%20 p1 ü.img")
    target = lab.image("target\n[1] p1", 12 * MIB)
    lab.bsync(source, target)
    assert_same_tree(lab, source, target)
    link = lab.folder / "link"
    link.symlink_to(target)
    assert "0 files, 0 bytes" in lab.bsync(source, link).out


@pytest.mark.parametrize("scheme", ["", "loop://"])
def test_loop_devices(lab: Lab, scheme: str) -> None:
    source, target = made(lab), lab.image("target.img", 12 * MIB)
    before = source.read_bytes()
    with lab.attached(source) as here, lab.attached(target) as there:
        assert "done: 0 files" not in lab.bsync(f"{scheme}{here}", f"{scheme}{there}").out
        assert "identical" in lab.bsync("verify", f"{scheme}{here}", f"{scheme}{there}").out
        lab.bsync("inspect", f"{scheme}{there}")
        assert "0 files, 0 bytes" in lab.bsync(f"{scheme}{here}", f"{scheme}{there}").out
    assert_same_tree(lab, source, target)
    assert source.read_bytes() == before


def test_read_only_loop_device_is_a_source_and_no_destination(lab: Lab) -> None:
    source, target = made(lab), lab.image("target.img", 12 * MIB)
    with lab.attached(source, read_only=True) as here:
        lab.bsync(here, target)
        assert "read-only" in lab.bsync(target, here, status=3).err
    assert_same_tree(lab, source, target)


def test_part_of_a_disk_by_its_loop_device(lab: Lab) -> None:
    """A partition of an image, as losetup(8) gives it, into another one."""
    images = [lab.image(name, 40 * MIB) for name in ("source.img", "target.img")]
    parts = [lab.table(image, "label: dos\n,16MiB,L\n,,L\n")[1] for image in images]
    lab.make(images[0], parts[0], "mke2fs", "-q", "-t", "ext4")
    first = images[1].read_bytes()[: parts[1].start]
    with lab.attached(images[0], parts[0]) as here, lab.attached(images[1], parts[1]) as there:
        lab.bsync(here, there)
    assert_same_tree(lab, images[0], images[1], parts[0], parts[1])
    assert images[1].read_bytes()[: parts[1].start] == first


def test_create_makes_a_sparse_file(lab: Lab) -> None:
    source, target = made(lab), lab.folder / "new.img"
    lab.bsync(source, target, "--create", "1T", "--dry-run")
    assert not target.exists(), "a plan makes nothing"
    lab.bsync(source, f"loop://{target}", "--create", "100MiB")
    assert target.stat().st_size == 100 * MIB
    assert target.stat().st_blocks * 512 < 12 * MIB
    lab.assert_clean(target)
    assert "0 files, 0 bytes" in lab.bsync(source, target).out
    assert "exists already" in lab.bsync(source, target, "--create", "100M", status=2).err


def test_create_leaves_nothing_behind_where_it_is_refused(lab: Lab) -> None:
    source, target = made(lab), lab.folder / "new.img"
    assert "need" in lab.bsync(source, target, "--create", "1MiB", status=3).err
    lab.bsync(source, target, "--create", "many", status=2)
    lab.bsync(source, lab.folder / "no" / "folder", "--create", "20M", status=4)
    assert not target.exists()


@pytest.mark.parametrize("word", ["missing.img", "/dev/missing", "loop://missing"])
def test_missing_ones_are_named(lab: Lab, word: str) -> None:
    source = made(lab)
    for words in ((word, source), (source, word)):
        run = lab.bsync(*words, status=4)
        assert f"{word.removeprefix('loop://')}: No such file" in run.err


def test_no_device_at_all(lab: Lab) -> None:
    source = made(lab)
    (lab.folder / "empty").touch()
    (lab.folder / "folder").mkdir()
    for word in ("empty", "folder", "/dev/null"):
        lab.bsync(source, lab.folder / word, status=3)
        lab.bsync(lab.folder / word, source, status=3)
    lab.bsync(source, "nfs://host/path", status=2)
    lab.bsync(source, status=2)
    lab.bsync(source, source, source, status=2)


def test_blank_source_is_refused(lab: Lab) -> None:
    blank, target = lab.image("blank.img", 8 * MIB), lab.image("target.img", 8 * MIB)
    assert "nothing to clone" in lab.bsync(blank, target, status=3).err


NOT_HERE = ("iscsi://127.0.0.1:1/iqn.2004-10.org.example:disk", "lvm+snapshot://no-group/volume")


@pytest.mark.parametrize("word", NOT_HERE)
def test_what_cannot_be_acquired_is_said_in_one_line(lab: Lab, word: str) -> None:
    source = made(lab)
    before = source.read_bytes()
    for words in ((word, source), (source, word)):
        run = lab.bsync("--yes", *words, status=4)
        assert run.err.startswith((f"bsync: {word}: ", "bsync: not installed: lv"))
        assert run.err.count("\n") == 1 + ("\n       " in run.err), "a line, and perhaps a hint"
    assert source.read_bytes() == before
