# SPDX-License-Identifier: GPL-2.0-only
"""Changed hard links and holes, and changes where there is little room."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lab import MIB, Lab, call
from pairs import Pair
from trees import blocks, set_flags

pytestmark = pytest.mark.engine("files")

GIB = 1 << 30


@pytest.fixture
def pair(lab: Lab) -> Pair:
    return Pair(lab)


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
