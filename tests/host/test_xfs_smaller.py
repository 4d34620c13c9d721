# SPDX-License-Identifier: GPL-2.0-only
"""XFS goes onto a smaller place by its files, and is synchronised by them."""

from __future__ import annotations

import fcntl
import os
import random
import struct
from pathlib import Path

import pytest
from lab import MIB, Lab, call, digest
from trees import assert_same_tree, set_flags

from bsync.filesystems.xfs.superblock import parse

SIZE, SMALLER = 420 * MIB, 340 * MIB
MAKE = ("mkfs.xfs", "-q", "-f")
_SET_XATTR = 0x401C5820


@pytest.fixture
def source(lab: Lab) -> Path:
    """A filesystem with files of many kinds, which is labelled so that a shell would stumble."""
    image, chosen = lab.image("source.img", SIZE), random.Random(1)
    call(*MAKE, "-L", "a b\"';$(x)`", image)
    with lab.mounted(image) as tree:
        for number in range(100):
            (tree / f"file-{number:03}").write_bytes(chosen.randbytes(chosen.choice((60, 90_000))))
        (tree / "folder").mkdir()
        (tree / "folder" / "held").write_bytes(b"held")
        os.link(tree / "file-001", tree / "linked")
        with (tree / "holed").open("wb") as file:
            os.truncate(file.fileno(), 50 * MIB)
            os.pwrite(file.fileno(), b"in the middle", 20 * MIB)
        call("setfacl", "-m", "u:1234:rw", tree / "file-002")
        os.setxattr(tree / "file-003", "user.said", b"so")
        set_project(tree / "file-004", 77)
        set_flags(tree / "folder" / "held", "i")
    return image


def set_project(path: Path, project: int) -> None:
    with path.open("rb") as file:
        fcntl.ioctl(file, _SET_XATTR, struct.pack("=IIIII8x", 0, 0, 0, project, 0))


def read(image: Path, at: int, size: int) -> bytes:
    with image.open("rb") as file:
        return os.pread(file.fileno(), size, at)


def assert_clone(lab: Lab, source: Path, target: Path) -> None:
    """The same tree and names, in a filesystem that is in order, and bsync says so."""
    assert "identical" in lab.bsync("verify", source, target).out
    call("xfs_repair", "-n", target)
    here, there = (parse(read(image, 0, 512)) for image in (source, target))
    assert (here.uuid, here.label, here.features) == (there.uuid, there.label, there.features)
    assert there.block_uuid.hex() == there.uuid.replace("-", "")
    assert_same_tree(lab, source, target, options="nouuid")


def test_a_smaller_place_gets_all_files_and_is_synchronised(lab: Lab, source: Path) -> None:
    target, before = lab.image("target.img", SMALLER), digest(source)
    said = lab.bsync(source, target).out
    assert "copy all files" in said
    assert "the destination is smaller than the filesystem" in said
    assert_clone(lab, source, target)
    assert digest(source) == before
    with lab.mounted(source) as tree:
        facts = (tree / "file-006").stat()
        (tree / "file-005").write_bytes(b"changed")
        (tree / "file-006").write_bytes(os.urandom(facts.st_size))
        os.utime(tree / "file-006", ns=(facts.st_atime_ns, facts.st_mtime_ns))
        (tree / "file-007").unlink()
        set_project(tree / "file-004", 0)
        set_project(tree / "file-008", 78)
    said = lab.bsync(source, target).out
    assert "synchronise files" in said
    assert "2 files" in said
    assert "1 deleted" in said
    assert_clone(lab, source, target)
    assert "0 files, 0 bytes transferred" in lab.bsync(source, target).out
    assert_clone(lab, source, target)


@pytest.mark.parametrize(
    "options",
    [("-m", "rmapbt=1,bigtime=0", "-i", "nrext64=1,size=1024", "-s", "size=4096", "-d",
      "su=64k,sw=4,agcount=3"),
     ("-b", "size=1024", "-n", "size=8192","-m", "reflink=0,finobt=0,inobtcount=0,bigtime=0",
      "-i", "sparse=0,maxpct=10")],
    ids=" ".join,
)  # fmt: skip
def test_a_clone_is_made_like_its_source(lab: Lab, options: tuple[str, ...]) -> None:
    source, target = lab.image("source.img", SIZE), lab.image("target.img", SMALLER)
    call(*MAKE, *options, source)
    lab.bsync(source, target)
    assert_clone(lab, source, target)
    here, there = (parse(read(image, 0, 512)) for image in (source, target))
    for name in ("block_size", "sector_size", "inode_size", "directory_size", "percent", "stripe"):
        assert getattr(here, name) == getattr(there, name), name
    assert "differs from the source" not in lab.bsync("plan", source, target).out


@pytest.mark.parametrize("count", [3, 4, 7])
def test_a_copy_that_was_cut_off_is_completed(lab: Lab, source: Path, count: int) -> None:
    """Before it is made, before it is marked, and before it gets the label."""
    target = lab.image("target.img", SMALLER)
    assert lab.faulty("before-child", count, "KILL", source, target).status == -9
    lab.bsync("recover")
    assert count < 4 or b"bsync-incomp" in read(target, 0, 512)
    lab.bsync("verify", source, target, status=6)
    lab.bsync(source, target)
    assert_clone(lab, source, target)


def test_a_clone_whose_log_holds_changes_is_settled_and_mended(lab: Lab, source: Path) -> None:
    target, left = lab.image("target.img", SMALLER), lab.folder / "left.img"
    lab.bsync(source, target)
    with lab.mounted(target, options="nouuid") as tree:
        (tree / "file-001").unlink()
        call("fsfreeze", "--freeze", tree)
        call("cp", "--sparse=always", target, left)
        call("fsfreeze", "--unfreeze", tree)
    assert "not clean" in lab.bsync("inspect", left).out
    lab.bsync(source, left)
    assert_clone(lab, source, left)


def test_files_that_do_not_fit_are_refused(lab: Lab, source: Path) -> None:
    for name, size in (("files.img", SMALLER), ("least.img", 290 * MIB)):
        if size == SMALLER:
            with lab.mounted(source) as tree:
                (tree / "large").write_bytes(os.urandom(250 * MIB))
        target = lab.image(name, size)
        said = lab.bsync(source, target, status=3).err
        assert "the files need" in said
        assert target.stat().st_blocks == 0


def test_a_clone_by_files_is_never_taken_for_one_by_blocks(lab: Lab, source: Path) -> None:
    """On a place that was enlarged afterwards, or was never smaller."""
    target = lab.image("target.img", SIZE)
    lab.bsync("--engine", "files", source, target)
    assert_clone(lab, source, target)
    assert "the clone was made by files" in lab.bsync(source, target).out
    assert "every" not in lab.bsync("--engine", "blocks", source, target).out
    assert_clone(lab, source, target)
    assert "nothing differs" in lab.bsync(source, target).out


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_a_disk_onto_a_smaller_one(lab: Lab, label: str) -> None:
    source, target = lab.image("source.img", 440 * MIB), lab.image("target.img", 340 * MIB)
    type_ = "L" if label == "gpt" else "83"
    swap, part = lab.table(source, f"label: {label}\nsize=10M, type=S\nsize=420M, type={type_}\n")
    lab.make(source, swap, "mkswap", "-q")
    lab.make(source, part, *MAKE)
    with lab.mounted(source, part) as tree:
        (tree / "file").write_bytes(os.urandom(MIB))
    lab.bsync(source, target)
    assert "identical" in lab.bsync("verify", source, target).out
    small = lab.partitions(target)[1]
    assert 300 * MIB <= small.size < 340 * MIB
    assert_same_tree(lab, source, target, part, small, options="nouuid")
