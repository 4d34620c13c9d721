# SPDX-License-Identifier: GPL-2.0-only
"""What a second run makes of a changed source: just the changes, and all of them."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import MIB, Lab, call
from pairs import Pair
from trees import set_flags

pytestmark = pytest.mark.engine("files")

GIB = 1 << 30


@pytest.fixture
def pair(lab: Lab) -> Pair:
    return Pair(lab)


def test_just_what_changed(pair: Pair) -> None:
    with pair.changing() as tree:
        for number in range(50):
            (tree / f"file-{number}").write_text(f"{number:5}")
        (tree / "folder" / "below").mkdir(parents=True)
        (tree / "folder" / "below" / "file").write_text("x")
    assert pair.synchronised() == (51, 251, 0)
    with pair.changing() as tree:
        (tree / "file-3").write_text("changed")
        (tree / "file-4").unlink()
        (tree / "new").write_text("12")
        (tree / "file-5").rename(tree / "renamed")
        (tree / "file-6").chmod(0o600)
        (tree / "file-7").touch()
        shutil.rmtree(tree / "folder" / "below")
        (tree / "empty").mkdir()
        (tree / "symlink").symlink_to("new")
    # file-3, new, renamed and file-7; file-4, file-5, below and the file in it
    assert pair.synchronised() == (4, 7 + 2 + 5 + 5, 4)


def test_metadata_alone_is_no_transfer(pair: Pair) -> None:
    with pair.changing() as tree:
        for name in "abcdefgh":
            (tree / name).write_text(name)
        (tree / "folder").mkdir()
        os.setxattr(tree / "f", "user.old", b"1")
        call("setfacl", "-m", "u:9:r", tree / "h")
        call("setcap", "cap_net_raw+ep", tree / "g")
    pair.synchronised()
    with pair.changing() as tree:
        os.chown(tree / "a", 70000, 70001)
        (tree / "b").chmod(0o4755)
        os.setxattr(tree / "c", "user.new", b"x")
        call("setfacl", "-m", "u:9:r", tree / "d")
        call("setcap", "cap_net_raw+ep", tree / "e")
        os.removexattr(tree / "f", "user.old")
        os.chown(tree / "g", 5, 5)  # which takes its capability away
        call("setfacl", "-b", tree / "h")
        call("setfacl", "-d", "-m", "u:9:rwx", tree / "folder")
        os.utime(tree / "a", ns=(10**18, os.stat(tree / "a").st_mtime_ns))
    assert pair.synchronised() == (0, 0, 0)
    with pair.changing() as tree:
        call("setcap", "cap_net_admin+ep", tree / "g")
        os.chown(tree / "e", 7, 7)
        call("setcap", "cap_net_raw+ep", tree / "e")
    assert pair.synchronised() == (0, 0, 0)


def test_same_size_and_second_but_other_nanoseconds(pair: Pair) -> None:
    with pair.changing() as tree:
        (tree / "file").write_text("one")
        os.utime(tree / "file", ns=(10**18, 10**18 + 111))
        (tree / "touched").write_text("same")
        os.utime(tree / "touched", ns=(10**18, 10**18 + 1))
    pair.synchronised()
    with pair.changing() as tree:
        (tree / "file").write_text("two")
        os.utime(tree / "file", ns=(10**18, 10**18 + 112))
        os.utime(tree / "touched", ns=(10**18, 10**18 + 2))
    assert pair.synchronised()[0] == 2


def test_same_size_and_time_is_found_by_checksum(pair: Pair, lab: Lab) -> None:
    with pair.changing() as tree:
        (tree / "file").write_text("one")
        os.utime(tree / "file", ns=(10**18, 10**18))
    pair.synchronised()
    with pair.changing() as tree:
        (tree / "file").write_text("two")
        os.utime(tree / "file", ns=(10**18, 10**18))
    assert "file" in lab.bsync("verify", pair.source, pair.target, status=6).out
    assert pair.synchronised("--checksum") == (1, 3, 0)


def test_inside_what_may_not_be_changed(pair: Pair) -> None:
    with pair.changing() as tree:
        for letter in "ia":
            folder = tree / f"folder-{letter}"
            (folder / "below").mkdir(parents=True)
            for name in ("changes", "goes", "stays", "freed", "moves"):
                (folder / name).write_text(name)
                set_flags(folder / name, letter)
            (folder / "plain").write_text("plain")
            set_flags(folder / "below", letter)
            set_flags(folder, letter)
    pair.synchronised()
    with pair.changing() as tree:
        for letter in "ia":
            folder = tree / f"folder-{letter}"
            for name in ("", "changes", "goes", "freed", "moves", "below"):
                set_flags(folder / name, "")
            (folder / "changes").write_text("other")
            (folder / "goes").unlink()
            (folder / "moves").rename(folder / "below" / "moved")
            (folder / "plain").write_text("other")
            (folder / "new").write_text("new")
            for name in ("changes", "new", "below/moved", "below", ""):
                set_flags(folder / name, letter)
    assert pair.synchronised()[0] == 8
    with pair.changing() as tree:  # everything gone, but for what is free by now
        for letter in "ia":
            for name in ("", "changes", "new", "stays", "below", "below/moved"):
                set_flags(tree / f"folder-{letter}" / name, "")
            shutil.rmtree(tree / f"folder-{letter}")
    pair.synchronised("--yes")


def test_flags_come_and_go(pair: Pair) -> None:
    with pair.changing() as tree:
        (tree / "folder").mkdir()
        set_flags(tree / "folder", "dA")
        for name in ("inherits", "cleared", "other"):
            (tree / "folder" / name).write_text("x")
        set_flags(tree / "folder" / "cleared", "")
        set_flags(tree / "folder" / "other", "suc")
    pair.synchronised()
    with pair.changing() as tree:
        set_flags(tree / "folder", "S")
        set_flags(tree / "folder" / "inherits", "")
        set_flags(tree / "folder" / "cleared", "i")
        set_flags(tree / "folder" / "other", "dA")
        (tree / "folder" / "new").write_text("inherits S")
        (tree / "folder" / "new-cleared").write_text("")
        set_flags(tree / "folder" / "new-cleared", "")
    assert pair.synchronised()[0] == 2


def full_folder(path: Path) -> None:
    (path / "below").mkdir(parents=True)
    (path / "below" / "file").write_text("below")
    hole(path / "hole")
    for name in ("below", "below/file", "hole"):
        set_flags(path / name, "dA")


def flagged(path: Path) -> None:
    path.write_text("flagged")
    set_flags(path, "A")


def hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(200 * MIB)
        file.write(b"start")


KINDS: dict[str, Callable[[Path], object]] = {
    "file": lambda path: path.write_text("file"),
    "flagged": flagged,
    "folder": lambda path: path.mkdir(),
    "full": full_folder,
    "symlink": lambda path: path.symlink_to("target-folder"),
    "fifo": os.mkfifo,
    "node": lambda path: os.mknod(path, stat.S_IFCHR, os.makedev(1, 3)),
    "hole": hole,
}


def test_kinds_change_into_each_other(pair: Pair) -> None:
    """Every kind into every other, at once."""
    kinds = tuple(KINDS)
    with pair.changing() as tree:
        (tree / "target-folder").mkdir()
        (tree / "target-folder" / "kept").write_text("kept")
        for one in kinds:
            for other in kinds:
                KINDS[one](tree / f"{one}-{other}")
    pair.synchronised()
    with pair.changing() as tree:
        for one in kinds:
            for other in kinds:
                path = tree / f"{one}-{other}"
                shutil.rmtree(path) if one in ("folder", "full") else path.unlink()
                KINDS[other](path)
    pair.synchronised()


def test_devices_that_stay_nodes(pair: Pair) -> None:
    with pair.changing() as tree:
        os.mknod(tree / "node", stat.S_IFCHR, os.makedev(1, 3))
        os.mknod(tree / "kind", stat.S_IFCHR, os.makedev(8, 1))
        (tree / "symlink").symlink_to("one")
    pair.synchronised()
    with pair.changing() as tree:
        for name in ("node", "kind", "symlink"):
            (tree / name).unlink()
        os.mknod(tree / "node", stat.S_IFCHR, os.makedev(1, 5))
        os.mknod(tree / "kind", stat.S_IFBLK, os.makedev(8, 1))
        (tree / "symlink").symlink_to("two")
    assert pair.synchronised() == (0, 0, 0)


# --- what leads out of the mount ----------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--checksum",)])
def test_symlink_in_the_way_of_a_sparse_file_is_not_followed(
    pair: Pair, lab: Lab, options: tuple[str, ...]
) -> None:
    outside = lab.folder / "outside"
    outside.mkdir()
    (outside / "big").write_text("not yours")
    with pair.changing() as tree:
        (tree / "folder").symlink_to(outside)
        (tree / "deep").mkdir()
        (tree / "deep" / "er").symlink_to(outside)
    pair.synchronised()
    with pair.changing() as tree:
        for name in ("folder", "deep/er"):
            (tree / name).unlink()
            (tree / name / "new").mkdir(parents=True)
            for path in (tree / name / "big", tree / name / "new" / "big"):
                with path.open("wb") as file:
                    file.truncate(GIB)
                    file.write(b"data")
    pair.synchronised(*options)
    assert os.listdir(outside) == ["big"]
    assert (outside / "big").read_text() == "not yours"


def test_flags_outside_are_not_touched(pair: Pair, lab: Lab) -> None:
    """The mirror had flags on folder/file; now `folder` leads elsewhere."""
    outside = lab.folder / "outside"
    outside.mkdir()
    (outside / "file").write_text("not yours")
    call("chattr", "=d", outside / "file")
    with pair.changing() as tree:
        (tree / "folder").mkdir()
        (tree / "folder" / "file").write_text("x")
        set_flags(tree / "folder" / "file", "iA")
    pair.synchronised()
    with pair.changing() as tree:
        set_flags(tree / "folder" / "file", "")
        shutil.rmtree(tree / "folder")
        (tree / "folder").symlink_to(outside)
    pair.synchronised()
    assert re.match(r"-*d-*$", call("lsattr", outside / "file").split()[0].replace("e", "-"))


def test_a_change_that_sets_the_time_back(pair: Pair) -> None:
    """As `touch -d` does: neither the size nor the time tells, but the inode's own change time."""
    with pair.changing() as tree:
        for name in ("plain", "linked"):
            (tree / name).write_text("old")
        os.link(tree / "linked", tree / "link")
        with (tree / "holed").open("wb") as file:
            file.truncate(MIB)
            file.write(b"old")
    pair.synchronised()
    with pair.changing() as tree:
        for name in ("plain", "linked", "holed"):
            when = os.stat(tree / name)
            with (tree / name).open("r+b") as file:
                file.write(b"new")
            os.utime(tree / name, ns=(when.st_atime_ns, when.st_mtime_ns))
    assert pair.synchronised()[0] == 3


def test_holes_are_not_read_to_compare_contents(pair: Pair) -> None:
    """One of a terabyte would take half an hour."""
    with pair.changing() as tree:
        with (tree / "holed").open("wb") as file:
            file.truncate(1000 * GIB)
            file.write(b"x")
        (tree / "file").write_text("y")
    pair.synchronised()
    with pair.changing() as tree:
        (tree / "holed").chmod(0o640)
    pair.synchronised("--checksum")
