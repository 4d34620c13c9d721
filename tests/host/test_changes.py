"""What a second run makes of a changed source: just the changes, and all of them."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import MIB, Lab, call
from trees import assert_same_tree, blocks, set_flags

GIB = 1 << 30


class Pair:
    """A source, its mirror, and the figures of each synchronisation."""

    def __init__(self, lab: Lab, size: int = 48 * MIB) -> None:
        self._lab = lab
        self.source, self.target = lab.image("source.img", size), lab.image("target.img", size)
        lab.make(self.source, None, "mke2fs", "-q", "-t", "ext4", "-I", "256", "-m", "0")

    @contextmanager
    def changing(self) -> Iterator[Path]:
        with self._lab.mounted(self.source) as tree:
            yield tree

    def synchronised(self, *options: str) -> tuple[int, int, int]:
        """Files, bytes and deletions that bsync reports; the mirror is one, and stays one."""
        figures = self._figures(*options)
        assert_same_tree(self._lab, self.source, self.target)
        self._lab.assert_clean(self.target)
        assert self._figures() == (0, 0, 0)
        return figures

    def _figures(self, *options: str) -> tuple[int, int, int]:
        text = self._lab.bsync(*options, "--json", self.source, self.target).out
        found = re.search(
            r'"event": "finished".*"transferred": (\d+), "files": (\d+), "deleted": (\d+)', text
        )
        assert found, text
        return int(found[2]), int(found[1]), int(found[3])


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
    pair.synchronised()


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


def test_hard_links_are_made_and_broken(pair: Pair) -> None:
    with pair.changing() as tree:
        for name in ("a", "b", "c", "d", "e"):
            (tree / name).write_text(f"contents of {name}")
        os.link(tree / "a", tree / "a2")
        os.link(tree / "a", tree / "a3")
        os.link(tree / "b", tree / "b2")
        os.link(tree / "c", tree / "c2")
    pair.synchronised()
    with pair.changing() as tree:
        (tree / "a2").unlink()
        (tree / "a2").write_text("on its own now, and different")
        (tree / "b2").unlink()
        os.link(tree / "c", tree / "b2")  # from one group to another
        (tree / "c").write_text("changed under all its names")
        (tree / "d").unlink()
        os.link(tree / "e", tree / "d")
        (tree / "a3").rename(tree / "z3")
    pair.synchronised()


def test_hard_link_broken_with_the_same_contents_and_times(pair: Pair) -> None:
    """As `cp -p a t; mv t a` does: nothing but the link tells the difference, until one of
    the two is changed alone."""
    with pair.changing() as tree:
        (tree / "one").write_text("same")
        for name in ("two", "three", "four"):
            os.link(tree / "one", tree / name)
        with (tree / "sparse-1").open("wb") as file:
            file.truncate(GIB)
        os.link(tree / "sparse-1", tree / "sparse-2")
        os.mkfifo(tree / "fifo-1")
        os.link(tree / "fifo-1", tree / "fifo-2")
    pair.synchronised()
    with pair.changing() as tree:
        for one, other in (("one", "two"), ("sparse-1", "sparse-2")):
            call("cp", "--preserve=all", "--sparse=always", tree / one, tree / "new")
            (tree / "new").rename(tree / other)
        os.unlink(tree / "three")
        os.link(tree / "two", tree / "three")
        when = os.lstat(tree / "fifo-1")
        os.unlink(tree / "fifo-2")
        os.mkfifo(tree / "fifo-2", 0o644)
        os.utime(tree / "fifo-2", ns=(when.st_atime_ns, when.st_mtime_ns))
    pair.synchronised()
    with pair.changing() as tree:
        (tree / "two").chmod(0o600)
        os.setxattr(tree / "one", "user.x", b"x")
    pair.synchronised()


def test_verify_sees_links_that_the_source_does_not_have(pair: Pair, lab: Lab) -> None:
    with pair.changing() as tree:
        (tree / "one").write_text("same")
        call("cp", "-p", tree / "one", tree / "two")
    pair.synchronised()
    with lab.mounted(pair.target) as tree:
        (tree / "two").unlink()
        os.link(tree / "one", tree / "two")
    assert "two" in lab.bsync("verify", pair.source, pair.target, status=6).out
    pair.synchronised()


def test_large_sparse_files(pair: Pair) -> None:
    def write(path: Path, size: int, *pieces: tuple[int, bytes]) -> None:
        with path.open("r+b" if path.exists() else "w+b") as file:
            file.truncate(size)
            for at, data in pieces:
                file.seek(at)
                file.write(data)

    with pair.changing() as tree:
        write(tree / "grows", 5 * GIB, (0, b"a" * 5000), (5 * GIB - 9, b"the end .."[:9]))
        write(tree / "shrinks", 5 * GIB, (4 * GIB + 7, b"beyond"))
        write(tree / "filled", GIB, (0, b"x"))
        write(tree / "moves", GIB, (500 * MIB, b"moves"))
        write(tree / "goes", GIB, (500 * MIB, b"goes"))
        write(tree / "stays", 3 * GIB, (2 * GIB, b"stays"))
        (tree / "folder").mkdir()
        os.link(tree / "grows", tree / "folder" / "linked")
    assert pair.synchronised()[0] == 6
    with pair.changing() as tree:
        write(tree / "grows", 6 * GIB, (3 * GIB, b"middle"))
        write(tree / "shrinks", 100 * MIB, (50 * MIB, b"left"))
        write(tree / "filled", GIB, (GIB // 2, os.urandom(MIB)))
        (tree / "moves").rename(tree / "folder" / "moved")
        (tree / "goes").unlink()
        (tree / "stays").chmod(0o600)
        os.link(tree / "stays", tree / "folder" / "stays-linked")
        set_flags(tree / "filled", "i")
    files, transferred, deleted = pair.synchronised()
    assert (files, deleted) == (4, 2)
    assert transferred < 2 * MIB, "holes are no bytes"


def test_preallocated_and_zeroed(pair: Pair, lab: Lab) -> None:
    with pair.changing() as tree, (tree / "log").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 8 * MIB)
        file.write(b"a line\n")
    pair.synchronised()
    with pair.changing() as tree:
        with (tree / "zeroes").open("wb") as file:
            file.write(bytes(MIB))
        call("fallocate", "--punch-hole", "-o", "0", "-l", "4096", tree / "log")
        os.utime(tree / "log")
    pair.synchronised()
    with lab.mounted(pair.source) as one, lab.mounted(pair.target, read_only=True) as other:
        assert blocks(other)[b"log"] <= blocks(one)[b"log"]


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


# --- little room --------------------------------------------------------------------------


def test_changed_file_that_does_not_fit_beside_itself(lab: Lab) -> None:
    pair = Pair(lab, 32 * MIB)
    with pair.changing() as tree:
        (tree / "large").write_bytes(os.urandom(16 * MIB))
        os.link(tree / "large", tree / "linked")
        (tree / "other").write_text("other")
    pair.synchronised()
    with pair.changing() as tree:
        with (tree / "large").open("r+b") as file:
            file.write(os.urandom(16 * MIB))
        (tree / "other").write_text("changed")
    files, transferred, _ = pair.synchronised()
    assert files == 2
    assert transferred == 16 * MIB + 7


def test_new_file_that_fits_only_once_others_are_gone(lab: Lab) -> None:
    pair = Pair(lab, 32 * MIB)
    with pair.changing() as tree:
        (tree / "z-old").write_bytes(os.urandom(18 * MIB))
    pair.synchronised()
    with pair.changing() as tree:
        (tree / "z-old").unlink()
        (tree / "a-new").write_bytes(os.urandom(18 * MIB))
    assert pair.synchronised() == (1, 18 * MIB, 1)


def test_new_sparse_file_that_fits_only_once_others_are_gone(lab: Lab) -> None:
    pair = Pair(lab, 32 * MIB)
    with pair.changing() as tree:
        (tree / "z-old").write_bytes(os.urandom(18 * MIB))
    pair.synchronised()
    with pair.changing() as tree:
        (tree / "z-old").unlink()
        with (tree / "a-new").open("wb") as file:
            file.write(os.urandom(18 * MIB))
            file.truncate(GIB)
    files, transferred, deleted = pair.synchronised()
    assert (files, deleted) == (1, 1)
    assert transferred < 19 * MIB


def test_hard_links_broken_where_there_is_little_room(lab: Lab) -> None:
    """Changing in place must not write through a link that is to be broken."""
    pair = Pair(lab, 32 * MIB)
    with pair.changing() as tree:
        (tree / "large").write_bytes(os.urandom(9 * MIB))
        os.link(tree / "large", tree / "linked")
    pair.synchronised()
    with pair.changing() as tree:
        (tree / "linked").unlink()
        (tree / "linked").write_bytes(os.urandom(9 * MIB))
        (tree / "large").write_bytes(os.urandom(9 * MIB))
    pair.synchronised()
