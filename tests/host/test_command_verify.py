# SPDX-License-Identifier: GPL-2.0-only
"""`bsync verify` finds every kind of difference, lists it, and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from aftermath import changed_mirror
from lab import MIB, Lab, call, digest
from small_disks import DISK_SIZE, bare, disk, overwrite

Change = Callable[[Lab, Path], None]


@pytest.fixture(scope="module")
def mirrors(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A source and its mirror, to be copied by each test."""
    lab = Lab(tmp_path_factory.mktemp("mirrors"))
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    lab.bsync(source, target)
    return source, target


def in_tree(change: Callable[[Path], object]) -> Change:
    def apply(lab: Lab, image: Path) -> None:
        with lab.mounted(image, lab.partitions(image)[2]) as tree:
            change(tree)

    return apply


def same_size_and_time(tree: Path) -> None:
    path = tree / "file-003"
    facts = path.stat()
    path.write_bytes(path.read_bytes().replace(b"3", b"4", 1))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def other_time(tree: Path) -> None:
    path = tree / "file-003"
    facts = path.stat()
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1))


def unlinked(tree: Path) -> None:
    """A hard link that became a file of its own, alike in all else."""
    path = tree / "deep" / "link"
    call("cp", "--archive", path, tree / "new")
    os.rename(tree / "new", path)
    call("touch", "--reference", tree / "file-000", path)


def extra(tree: Path) -> None:
    facts = tree.stat()
    (tree / "extra").write_text("extra")
    os.utime(tree, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def to_symlink(tree: Path) -> None:
    path = tree / "deep" / "symlink"
    path.unlink()
    path.symlink_to("elsewhere")


def at(part: int, offset: int, data: bytes) -> Change:
    def apply(lab: Lab, image: Path) -> None:
        start = lab.partitions(image)[part].start if part >= 0 else 0
        overwrite(image, start + offset, data)

    return apply


def tune(part: int, *words: str) -> Change:
    return lambda lab, image: lab.make(image, lab.partitions(image)[part], "tune2fs", *words)


def other_type(_lab: Lab, image: Path) -> None:
    call("sfdisk", "--quiet", "--part-type", image, "1", "b")


# What is changed on the destination, and what the list then has.
CHANGES: dict[str, tuple[Change, str]] = {
    "contents": (in_tree(same_size_and_time), "file-003"),
    "time": (in_tree(other_time), "file-003"),
    "mode": (in_tree(lambda tree: (tree / "file-002").chmod(0o4711)), "file-002"),
    "owner": (in_tree(lambda tree: os.chown(tree / "file-002", 70_000, 1)), "file-002"),
    "attribute": (
        in_tree(lambda tree: os.setxattr(tree / "file-002", "user.x", b"y")), "file-002",
    ),
    "flag": (in_tree(lambda tree: call("chattr", "+d", tree / "file-002")), "flags"),
    "immutable": (in_tree(lambda tree: call("chattr", "+i", tree / "deep")), "deep"),
    "missing": (in_tree(lambda tree: (tree / "file-001").unlink()), "file-001"),
    "extra": (in_tree(extra), "extra"),
    "hard link": (in_tree(unlinked), "link"),
    "symbolic link": (in_tree(to_symlink), "deep/symlink"),
    "directory": (in_tree(lambda tree: (tree / "deep" / "er").chmod(0o700)), "deep/er"),
    "boot code": (at(-1, 7, b"virus"), "boot code differs"),
    "disk signature": (at(-1, 440, b"\1\2\3\4"), "boot code differs"),
    "gap": (at(-1, 700, b"virus"), "before the first partition differs"),
    "type": (other_type, "partition 1 has type b"),
    "label": (tune(0, "-L", "other"), "partition 1: its label differs"),
    "UUID": (tune(0, "-U", "clear"), "partition 1: its UUID differs"),
    "tuning": (tune(2, "-e", "panic"), "partition 5: its tuning differs"),
    "mark": (tune(2, "-L", "bsync-incomplete"), "partition 5: is marked as an incomplete clone"),
    "state": (at(0, 1024 + 0x3A, b"\2"), "partition 1: its filesystem is not clean"),
    "no filesystem": (at(2, 1024, bytes(1024)), "partition 5: holds"),
    "swap": (at(3, 4096 - 10, bytes(10)), "partition 6: holds"),
    "no table": (at(-1, 510, b"\0\0"), "the destination has no partition table"),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_found(lab: Lab, mirrors: tuple[Path, Path], what: str) -> None:
    source, target = mirrors[0], lab.folder / "target.img"
    call("cp", "--sparse=always", mirrors[1], target)
    change, says = CHANGES[what]
    change(lab, target)
    before = digest(target)
    run = lab.bsync("verify", source, target, status=6)
    assert says in run.out, run.out
    assert "not a clone: " in run.err
    assert digest(target) == before


def test_no_change_is_no_difference(mirrors: tuple[Path, Path], lab: Lab) -> None:
    run = lab.bsync("verify", *mirrors)
    assert "identical" in run.out


def test_a_marked_disk_is_found(lab: Lab, mirrors: tuple[Path, Path]) -> None:
    """The boot code of an incomplete clone."""
    target = lab.image("target.img", DISK_SIZE)
    lab.faulty("after-step", 8, "KILL", mirrors[0], target)
    lab.bsync("recover")
    lab.assert_all_goes()
    run = lab.bsync("verify", mirrors[0], target, status=6)
    assert "marked as an incomplete clone" in run.out
    assert "INCOMPLETE CLONE" in lab.bsync("inspect", target).out


@pytest.mark.engine("blocks")
@pytest.mark.parametrize("kind", ["ext2", "ext4"])
def test_a_mirror_whose_synchronisation_was_cut_off(lab: Lab, kind: str) -> None:
    """It cannot be mounted, which is no reason to fail."""
    case = changed_mirror(lab, bare(lab, kind))
    lab.faulty("after-superblock", 1, "KILL", case.source, case.before)
    lab.bsync("recover")
    lab.assert_all_goes()
    run = lab.bsync("verify", case.source, case.before, status=6)
    assert run.out == "whole device: is marked as an incomplete clone\n"


def test_many_changes_are_all_listed(lab: Lab, mirrors: tuple[Path, Path]) -> None:
    target = lab.folder / "target.img"
    call("cp", "--sparse=always", mirrors[1], target)
    chosen = ("contents", "mode", "extra", "symbolic link", "label", "gap")
    for what in chosen:
        CHANGES[what][0](lab, target)
    run = lab.bsync("verify", mirrors[0], target, status=6)
    for what in chosen:
        assert CHANGES[what][1] in run.out, run.out


def test_another_size_is_found_in_raw_contents(lab: Lab) -> None:
    source, target = lab.image("source.img", 4 * MIB), lab.image("target.img", 4 * MIB)
    overwrite(source, 0, b"raw" * 1000)
    lab.bsync("--raw", source, target)
    lab.bsync("verify", source, target)
    overwrite(target, 3 * MIB, b"x")
    lab.bsync("verify", source, target, status=6)
