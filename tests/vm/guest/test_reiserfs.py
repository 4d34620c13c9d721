# SPDX-License-Identifier: GPL-2.0-only
"""ReiserFS on a kernel that can mount it: made, synchronised, completed after a kill."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from lab import MIB, call, digest
from rig import Rig
from trees import assert_same_tree, set_flags
from volumes import volume_group

SIZE = 96 * MIB
UUID = "11111111-2222-4333-8444-555555555555"
MADE = ("mkreiserfs", "-q", "-f", "-f", "-u", UUID, "-l", "old")
ALL = "user_xattr,acl,attrs"


def fill(tree: Path) -> None:
    """Something of all that a ReiserFS holds."""
    folder = tree / "folder"
    folder.mkdir()
    for number in range(60):
        (folder / f"small-{number:03}").write_text(f"tail {number}\n" * (number + 1))
    (tree / "large").write_bytes(os.urandom(3 * MIB))
    with (tree / "holes").open("wb") as file:
        file.write(b"begin")
        file.seek(8 * MIB)
        file.write(b"end")
    os.link(tree / "large", folder / "link")
    os.symlink("../large", folder / "symlink")
    os.mknod(folder / "node", 0o600 | stat.S_IFBLK, os.makedev(8, 1))
    os.mkfifo(folder / "pipe")
    os.chown(folder / "small-001", 1234, 5678)
    call("setfattr", "-n", "user.colour", "-v", "green", folder / "small-002")
    call("setfacl", "-m", "u:1234:r", folder / "small-003")
    (tree / b"n\xe4me\n".decode("utf-8", "surrogateescape")).write_text("odd")
    set_flags(folder / "small-004", "i")
    set_flags(folder / "small-005", "dA")


def source_in(rig: Rig, *words: str) -> Path:
    image = rig.image("source.img", SIZE)
    call(*MADE, *words, image)
    with rig.mounted(image, options=ALL) as tree:
        fill(tree)
    return image


def assert_sound(rig: Rig, image: Path) -> None:
    """reiserfsck finds nothing.  It looks at a copy, since it writes even to what is sound."""
    copy = rig.folder / "copy.img"
    call("cp", "--sparse=always", image, copy)
    call("reiserfsck", "--check", "-y", "-q", copy)
    copy.unlink()


def rewrite(path: Path) -> None:
    """Change the contents, and neither size nor time."""
    facts = os.stat(path)
    with path.open("r+b") as file:
        file.write(b"other")
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))


def test_it_is_cloned_and_synchronised(rig: Rig) -> None:
    source, target = source_in(rig), rig.image("target.img", SIZE)
    before = digest(source)
    rig.bsync(source, target)
    assert digest(source) == before
    assert_same_tree(rig, source, target, options=ALL)
    assert_sound(rig, target)
    rig.assert_mirror(source, target)
    with rig.mounted(source, options=ALL) as tree:
        (tree / "folder/small-010").write_text("changed")
        (tree / "folder/small-011").unlink()
        set_flags(tree / "folder/small-004", "")
        (tree / "new").write_text("new")
        rewrite(tree / "large")
    done = rig.bsync(source, target).out
    assert "done: 3 files" in done
    assert_same_tree(rig, source, target, options=ALL)
    assert_sound(rig, target)
    rig.assert_mirror(source, target)


def test_a_change_is_found_by_verify(rig: Rig) -> None:
    source, target = source_in(rig), rig.image("target.img", SIZE)
    rig.bsync(source, target)
    with rig.mounted(target, options=ALL) as tree:
        set_flags(tree / "folder/small-005", "")
        rewrite(tree / "large")
    said = rig.bsync("verify", source, target, status=6).out
    assert "folder/small-005 differs in flags" in said
    assert "the reiserfs is not checked" in said
    assert "large" in said


@pytest.mark.parametrize("bare", [False, True])
def test_a_smaller_one(rig: Rig, bare: bool) -> None:
    """Of another block size, hash and journal, too; in a partition and by itself."""
    source = source_in(rig, *(("-h", "tea", "-s", "1024", "-t", "256") if bare else ()))
    if bare:
        target = rig.image("target.img", 64 * MIB)
        rig.bsync(source, target)
        assert_same_tree(rig, source, target, options=ALL)
        assert_sound(rig, target)
        return
    disk, smaller = rig.image("disk.img", SIZE + 2 * MIB), rig.image("smaller.img", 80 * MIB)
    (here,) = rig.table(disk, f"label: dos\nstart=2048, size={SIZE // 512}, type=83\n")
    call("dd", f"if={source}", f"of={disk}", "bs=1M", "seek=1", "conv=notrunc", "status=none")
    rig.bsync(disk, smaller)
    assert_same_tree(rig, disk, smaller, here, rig.partitions(smaller)[0], options=ALL)
    rig.assert_mirror(disk, smaller)
    before = digest(smaller)
    rig.bsync(disk, smaller)
    assert digest(smaller) == before


def test_a_mask_that_the_mode_does_not_tell(rig: Rig) -> None:
    """The kernel forgets the mode that an ACL implies: what is a mask of rwx is a mode of r--."""
    source, target = source_in(rig), rig.image("target.img", SIZE)
    names = ("large", "folder", "folder/pipe")
    with rig.mounted(source, options=ALL) as tree:
        for name in names:
            (tree / name).chmod(0o644)
            call("setfacl", "-m", "u:1234:rwx", tree / name)
    with rig.mounted(source, read_only=True, options=ALL) as tree:
        assert {os.stat(tree / name).st_mode & 0o777 for name in names} == {0o644}
        assert all("mask::rwx" in call("getfacl", "-cE", tree / name) for name in names)
    rig.bsync(source, target)
    assert_same_tree(rig, source, target, options=ALL)
    rig.assert_mirror(source, target)
    before = digest(target)
    rig.bsync(source, target)
    assert digest(target) == before
    with rig.mounted(target, options=ALL) as tree:
        (tree / "large").chmod(0o644)  # which is the mask's as well
    assert "large differs in ACL mask" in rig.bsync("verify", source, target, status=6).out
    rig.bsync(source, target)
    assert_same_tree(rig, source, target, options=ALL)


def test_a_damaged_clone(rig: Rig) -> None:
    """Its bitmap calls the last blocks used, so that it is not sound, and its files are."""
    source, target = source_in(rig), rig.image("target.img", SIZE)
    rig.bsync(source, target)
    with target.open("r+b") as file:
        file.seek(17 * 4096 + SIZE // 4096 // 8 - 100)
        file.write(b"\xff" * 100)
    with rig.mounted(source, options=ALL) as tree:
        (tree / "new").write_text("new")
    assert "is damaged: reiserfsck" in rig.bsync(source, target, status=5).err
    assert 'reiserfs "bsync-incomplete"' in rig.bsync("inspect", target).out


def test_what_was_cut_off_is_marked_and_completed(rig: Rig) -> None:
    source, target = source_in(rig), rig.image("target.img", SIZE)
    rig.faulty("in-copy", 3, "KILL", source, target)
    assert 'reiserfs "bsync-incomplete"' in rig.bsync("inspect", target).out
    assert UUID not in call("blkid", "--probe", target)
    rig.bsync(source, target)
    assert_same_tree(rig, source, target, options=ALL)
    assert_sound(rig, target)
    rig.assert_mirror(source, target)


def test_a_journal_with_something_in_it_is_refused(rig: Rig) -> None:
    source, torn = source_in(rig), rig.image("torn.img", SIZE)
    with rig.mounted(source) as tree:
        (tree / "late").write_text("late")
        call("sync")
        call("dd", f"if={source}", f"of={torn}", "bs=1M", "conv=notrunc", "status=none")
    target = rig.image("target.img", SIZE)
    rig.assert_refused(torn, target, saying="was not unmounted")
    rig.bsync(source, target)
    call("dd", f"if={torn}", f"of={target}", "bs=1M", "conv=notrunc", "status=none")
    rig.bsync(source, target)  # a mirror in that state is mended
    assert_same_tree(rig, source, target, options=ALL)
    assert_sound(rig, target)


def test_the_snapshot_of_one_in_use(rig: Rig) -> None:
    """Its snapshot is as a power cut would leave it, and is mended as that would be."""
    target = rig.image("target.img", SIZE)
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("data", f"{SIZE}b")
        call(*MADE, origin)
        with rig.mounted_device(origin) as tree:
            (tree / "file").write_text("as it was")
            rig.bsync("lvm+snapshot://vg0/data", target)
            assert "done: 0 files" in rig.bsync("lvm+snapshot://vg0/data", target).out
        assert set(group.volumes()) == {"data"}
    with rig.mounted(target, read_only=True) as tree:
        assert (tree / "file").read_text() == "as it was"
    assert_sound(rig, target)
