# SPDX-License-Identifier: GPL-2.0-only
"""When a mirror is synchronised, resumed, repaired, made anew after a question, or left alone."""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path

import pytest
import small_disks
from disks import MIB, assert_clone, fill, names, read, write
from lab import Lab, Part, call, digest
from trees import assert_same_tree

from bsync.filesystems.ext import marker

KINDS = ("ext2", "ext3", "ext4")


def made(lab: Lab, kind: str = "ext4", *, files: int = 10, size: int = 24 * MIB) -> Path:
    image = lab.image("source.img", size)
    lab.make(image, None, "mke2fs", "-q", "-t", kind, "-L", "data", "-I", "256")
    with lab.mounted(image) as tree:
        for number in range(files):
            (tree / f"file-{number}").write_text(f"contents {number}")
    return image


def cloned(lab: Lab, source: Path) -> Path:
    target = lab.image("target.img", source.stat().st_size)
    lab.bsync(source, target)
    return target


def copy(image: Path, name: str) -> Path:
    path = image.with_name(name)
    call("cp", "--sparse=always", image, path)
    return path


def uuid_of(lab: Lab, image: Path, part: Part | None = None) -> str:
    with lab.attached(image, part, read_only=True) as device:
        return call("blkid", "-p", "-s", "UUID", "-o", "value", device).strip()


# --- incomplete mirrors -------------------------------------------------------------------


@pytest.mark.engine("files")
@pytest.mark.parametrize("kind", KINDS)
def test_marked_mirror_is_resumed_without_a_question(lab: Lab, kind: str) -> None:
    source = made(lab, kind)
    target = cloned(lab, source)
    marked = marker.marker_uuid(uuid_of(lab, source))
    seed = ["-O", "metadata_csum_seed"] if kind == "ext4" else []  # as bsync itself marks one
    lab.make(target, None, "tune2fs", *seed, "-L", "bsync-incomplete", "-U", marked)
    with lab.mounted(target) as tree:
        (tree / "file-3").unlink()
        (tree / "half").write_text("left from the run that was cut off")
    assert "marked as an incomplete clone" in lab.bsync("verify", source, target, status=6).out
    assert "incomplete" in lab.bsync(target, lab.image("other.img", 24 * MIB), status=3).err

    run = lab.bsync(source, target)
    assert "incomplete clone of this source" in run.out
    assert "done: 1 file, 10 bytes transferred, 1 deleted" in run.out
    assert uuid_of(lab, target) == uuid_of(lab, source)
    lab.assert_clean(target)
    assert_same_tree(lab, source, target)


def test_marked_mirror_of_another_source_is_a_loss(lab: Lab) -> None:
    source = made(lab)
    target = cloned(lab, source)
    marked = marker.marker_uuid(str(uuid.uuid4()))
    with lab.attached(target) as device:
        call("e2fsck", "-f", "-p", device, ok=(0, 1))  # which tune2fs wants
        call("tune2fs", "-L", "bsync-incomplete", "-U", marked, device)
    before = target.read_bytes()
    lab.bsync(source, target, status=3)
    assert target.read_bytes() == before
    lab.bsync("--yes", source, target)
    assert_same_tree(lab, source, target)


def test_other_uuid_is_made_anew_after_a_question(lab: Lab) -> None:
    source = made(lab)
    target = cloned(lab, source)
    with lab.attached(source) as device:
        call("e2fsck", "-f", "-p", device, ok=(0, 1))  # which tune2fs wants
        call("tune2fs", "-U", "random", device)
    before = target.read_bytes()
    assert "not a clone of this filesystem" in lab.bsync(source, target, status=3).out
    assert target.read_bytes() == before
    lab.bsync("--yes", source, target)
    assert_same_tree(lab, source, target)
    assert uuid_of(lab, target) == uuid_of(lab, source)


@pytest.mark.engine("files")
def test_other_kind_is_made_anew_after_a_question(lab: Lab) -> None:
    """A mirror that was made before the source became an ext4."""
    source = made(lab, "ext3")
    target = cloned(lab, source)
    lab.make(source, None, "tune2fs", "-O", "extent,uninit_bg,flex_bg")
    with lab.attached(source) as device:
        call("e2fsck", "-f", "-p", "-D", device, ok=(0, 1))
    lab.bsync(source, target, status=3)
    lab.bsync("--yes", source, target)
    assert names_of(lab, target) == "ext4"
    assert_same_tree(lab, source, target)


def names_of(lab: Lab, image: Path) -> str:
    return names(lab, image, Part(0, 0, image.stat().st_size, ""))["TYPE"]


@pytest.mark.engine("files")
def test_other_features_stay_and_are_said(lab: Lab) -> None:
    source = made(lab)
    target = cloned(lab, source)
    lab.make(source, None, "tune2fs", "-O", "large_dir")
    run = lab.bsync(source, target)
    assert "features (large_dir)" in run.out
    assert_same_tree(lab, source, target)


# --- a source that lost its files ---------------------------------------------------------


@pytest.mark.engine("files")
def test_nearly_empty_source_does_not_empty_the_mirror_unasked(lab: Lab) -> None:
    source = made(lab, files=300)
    target = cloned(lab, source)
    with lab.mounted(source) as tree:
        for number in range(290):
            (tree / f"file-{number}").unlink()
    before = target.read_bytes()
    run = lab.bsync(source, target, status=3)
    assert "about 290 of 300 files" in run.out
    assert target.read_bytes() == before
    assert (
        "done: 0 files, 0 bytes transferred, 290 deleted" in lab.bsync("--yes", source, target).out
    )
    assert_same_tree(lab, source, target)


def test_ordinary_deletions_need_no_answer(lab: Lab) -> None:
    source = made(lab, files=300)
    target = cloned(lab, source)
    with lab.mounted(source) as tree:
        for number in range(100):
            (tree / f"file-{number}").unlink()
    assert "100 deleted" in lab.bsync(source, target).out


# --- sources that are not at rest ---------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_source_that_was_cut_off_is_refused(lab: Lab, kind: str) -> None:
    """The image of a mounted filesystem, as after a power cut."""
    whole = made(lab, kind)
    with lab.mounted(whole) as tree:
        (tree / "new").write_text("in the journal, perhaps")
        call("sync", "-f", tree)
        (tree / "later").write_text("not yet")
        source = copy(whole, "cut-off.img")
    target = lab.image("target.img", 24 * MIB)
    before = source.read_bytes()
    run = lab.bsync(source, target, status=3)
    assert "needs a check" in run.err if kind == "ext2" else "needs recovery" in run.err
    assert "e2fsck -p" in run.err
    assert source.read_bytes() == before, "not even the journal was looked into"
    assert not target.read_bytes().strip(b"\0")
    assert "needs" in lab.bsync("plan", source, target, status=3).err

    with lab.attached(source) as device:  # the hint helps
        call("e2fsck", "-p", device, ok=(0, 1))
    lab.bsync(source, target)
    assert_same_tree(lab, source, target)


def test_source_with_errors_is_refused(lab: Lab) -> None:
    source, target = made(lab), lab.image("target.img", 24 * MIB)
    lab.make(source, None, "debugfs", "-w", "-R", "set_super_value state 2")
    assert "needs a check" in lab.bsync(source, target, status=3).err
    assert not target.read_bytes().strip(b"\0")


# --- mirrors that are not at rest ---------------------------------------------------------


@pytest.mark.engine("files")
@pytest.mark.parametrize("kind", KINDS)
def test_mirror_that_was_cut_off_is_compared_by_contents(lab: Lab, kind: str) -> None:
    """Sizes and times may be right there while the data never came."""
    source = made(lab, kind)
    whole = cloned(lab, source)
    with lab.mounted(whole) as tree:
        facts = os.stat(tree / "file-5")
        (tree / "file-5").write_text("CONTENTS 5")
        os.utime(tree / "file-5", ns=(facts.st_atime_ns, facts.st_mtime_ns))
        (tree / "stray").write_text("x")
        call("sync", "-f", tree)
        target = copy(whole, "cut-off.img")
    assert "not clean" in lab.bsync("verify", source, target, status=6).out
    assert "done: 1 file, 10 bytes transferred, 1 deleted" in lab.bsync(source, target).out
    lab.assert_clean(target)
    assert_same_tree(lab, source, target)


@pytest.mark.engine("files")
def test_damaged_mirror_ends_the_run_and_says_what_to_do(lab: Lab) -> None:
    source = made(lab)
    target = cloned(lab, source)
    lab.make(target, None, "debugfs", "-w", "-R", "clri <2>")
    lab.make(target, None, "debugfs", "-w", "-R", "set_super_value state 2")
    run = lab.bsync(source, target, status=5)
    assert "damaged" in run.err
    assert "wipefs" in run.err
    lab.make(target, None, "wipefs", "-q", "-a")
    lab.bsync("--yes", source, target)
    assert_same_tree(lab, source, target)


# --- what changes on a disk ---------------------------------------------------------------


def disk(lab: Lab) -> tuple[Path, Path]:
    source, target = lab.image("source.img", 64 * MIB), lab.image("target.img", 64 * MIB)
    lab.table(source, "label: dos\n,16MiB,L,*\n,,E\n,16MiB,L\n,4MiB,S\n,16MiB,L\n")
    fill(lab, source)
    write(source, 0, os.urandom(440))
    lab.bsync(source, target)
    return source, target


@pytest.mark.engine("files")
def test_only_the_partition_that_changed_is_transferred(lab: Lab) -> None:
    source, target = disk(lab)
    last = lab.partitions(source)[4]
    with lab.mounted(source, last) as tree:
        (tree / "new").write_text("12345")
        shutil.rmtree(tree / "folder")
    run = lab.bsync(source, target)
    assert "done: 1 file, 5 bytes transferred, 6 deleted" in run.out
    assert_clone(lab, source, target)


def test_boot_code_follows(lab: Lab) -> None:
    source, target = disk(lab)
    write(source, 0, os.urandom(446))
    write(source, 512, os.urandom(60_000))
    assert "the boot code differs" in lab.bsync("verify", source, target, status=6).out
    assert "done: 0 files, 0 bytes transferred" in lab.bsync(source, target).out
    assert read(target, 0, 446) == read(source, 0, 446)
    assert read(target, 512, 60_000) == read(source, 512, 60_000)
    assert_clone(lab, source, target)


def test_boot_loader_that_became_shorter_follows(lab: Lab) -> None:
    source, target = disk(lab)
    write(source, 512, os.urandom(60_000))
    lab.bsync(source, target)
    write(source, 512, bytes(60_000))
    write(source, 512, os.urandom(20_000) + bytes(100) + b"\1" + bytes(100))  # zeroes are its own
    lab.bsync(source, target)
    assert read(target, 512, 20_201) == read(source, 512, 20_201)
    assert_clone(lab, source, target)


@pytest.mark.engine("files")
def test_partition_that_grew_on_the_source(lab: Lab) -> None:
    """The mirror keeps its smaller one for as long as the files fit."""
    source = made(lab)
    target = cloned(lab, source)
    os.truncate(source, 40 * MIB)
    with lab.attached(source) as device:
        call("e2fsck", "-f", "-p", device, ok=(0, 1))
        call("resize2fs", device)
    with lab.mounted(source) as tree:
        (tree / "new").write_text("x")
    assert "done: 1 file, 1 byte transferred" in lab.bsync(source, target).out
    assert_same_tree(lab, source, target)


def outgrown(lab: Lab, options: tuple[str, ...] = (), kind: str = "ext4") -> tuple[Path, Path]:
    """A source of twice its former size, and fuller than its mirror of old could be."""
    source, target = lab.image("small.img", 16 * MIB), lab.image("target.img", 16 * MIB)
    lab.make(source, None, "mke2fs", "-q", "-t", kind, *options)
    with lab.mounted(source) as tree:
        (tree / "old").write_text("old")
    lab.bsync(source, target)
    for image in (source, target):
        os.truncate(image, 64 * MIB)
    with lab.attached(source) as device:
        call("e2fsck", "-f", "-p", device, ok=(0, 1))
        call("resize2fs", device)
    with lab.mounted(source) as tree:
        (tree / "new").write_bytes(os.urandom(24 * MIB))
    return source, target


@pytest.mark.engine("files")
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("ext4", ()),
        ("ext2", ("-b", "1024", "-O", "^resize_inode")),
        ("ext4", ("-O", "64bit,metadata_csum,^resize_inode,meta_bg", "-b", "4096")),
    ],
)
def test_a_mirror_grows_with_its_source(lab: Lab, kind: str, options: tuple[str, ...]) -> None:
    source, target = outgrown(lab, options, kind)
    write(target, 0, b"boot block of the mirror".ljust(1024, b"!"))
    planned = lab.bsync("plan", source, target).out
    assert "grow to 64 MiB (the source outgrew it, and its partition has" in planned
    assert "This will destroy" not in planned

    inode = inode_of(lab, target, "old")
    assert "done: 1 file, 24 MiB transferred" in lab.bsync(source, target).out
    assert inode_of(lab, target, "old") == inode, "it is still the same filesystem"
    assert read(target, 0, 1024).startswith(b"boot block of the mirror!")
    lab.assert_clean(target)
    lab.bsync("verify", source, target)
    again = lab.bsync(source, target).out
    assert "grow the" not in again
    assert "done: 0 files, 0 bytes transferred" in again


def inode_of(lab: Lab, image: Path, name: str) -> tuple[int, int]:
    with lab.mounted(image, read_only=True) as tree:
        status = (tree / name).stat()
        return status.st_ino, status.st_ctime_ns


@pytest.mark.engine("files")
def test_a_mirror_that_may_not_grow_enough_is_refused(lab: Lab) -> None:
    source, target = outgrown(lab)
    os.truncate(target, 24 * MIB)
    before = digest(target)
    assert "the files need" in lab.bsync("--yes", source, target, status=3).err
    assert digest(target) == before


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_where_nothing_changed_nothing_is_written(lab: Lab, engine: str) -> None:
    """Not even on a disk that boots: neither a mark nor the stub in its boot code."""
    source = small_disks.disk(lab)
    target = lab.image("target.img", source.stat().st_size)
    lab.bsync("--engine", engine, source, target)
    before = digest(target)
    said = lab.bsync("--engine", engine, source, target).out
    assert "done: 0 files, 0 bytes transferred" in said
    assert digest(target) == before
