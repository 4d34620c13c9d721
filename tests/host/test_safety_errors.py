# SPDX-License-Identifier: GPL-2.0-only
"""Every failure has one line, a hint where there is something to do, and its status; none has
a traceback."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import MIB, Lab, Run
from small_disks import BARE_SIZE, bare, disk, overwrite

Words = tuple[str | Path, ...]
Prepare = Callable[[Lab], Words]


def source(lab: Lab) -> Path:
    return bare(lab)


def target(lab: Lab) -> Path:
    return lab.image("target.img", BARE_SIZE)


def directory(lab: Lab) -> Path:
    path = lab.folder / "directory"
    path.mkdir()
    return path


def empty(lab: Lab) -> Path:
    return lab.image("empty.img", 0)


def noise(lab: Lab) -> Path:
    path = lab.image("noise.img", BARE_SIZE)
    overwrite(path, 0, bytes(range(256)) * 4096)
    return path


def dangling(lab: Lab) -> Path:
    path = lab.folder / "dangling"
    path.symlink_to("nowhere")
    return path


def loop_of_links(lab: Lab) -> Path:
    path = lab.folder / "round"
    path.symlink_to("round")
    return path


def fifo(lab: Lab) -> Path:
    path = lab.folder / "fifo"
    os.mkfifo(path)
    return path


# What is done; the status; what the message has; whether there is a hint.
WRONG: dict[str, tuple[Prepare, int, str, bool]] = {
    "nothing": (lambda _: (), 2, "no SRC and DEST", True),
    "no destination": (lambda lab: (source(lab),), 2, "DEST", True),
    "too many": (lambda lab: (source(lab), target(lab), "x"), 2, "x", True),
    "unknown option": (lambda _: ("--frobnicate", "a", "b"), 2, "--frobnicate", True),
    "unknown engine": (lambda _: ("--engine", "warp", "a", "b"), 2, "warp", True),
    "a size that is none": (lambda _: ("--create", "big", "a", "b"), 2, "big", True),
    "a negative size": (lambda _: ("--create", "-5", "a", "b"), 2, "-5", True),
    "an endless size": (lambda _: ("--create", "99999P", "a", "b"), 2, "out of range", True),
    "a size of nothing": (lambda _: ("--create", "0", "a", "b"), 2, "0", True),
    "unknown scheme": (lambda lab: ("ftp://x/y", target(lab)), 2, "unknown scheme", True),
    "empty word": (lambda lab: ("", target(lab)), 2, "empty word", True),
    "loop of nothing": (lambda lab: ("loop://", target(lab)), 2, "no file named", True),
    "a bad target name": (lambda lab: ("iscsi://host/disk", target(lab)), 2, "iSCSI", True),
    "no volume": (lambda lab: ("lvm+snapshot://vg", target(lab)), 2, "logical volume", True),
    "missing source": (lambda lab: (lab.folder / "x", target(lab)), 4, "No such file", False),
    "missing destination": (lambda lab: (source(lab), lab.folder / "x"), 4, "No such", True),
    "missing folder": (
        lambda lab: ("--create", "9M", source(lab), lab.folder / "x" / "y"), 4, "No such", True,
    ),
    "dangling link": (lambda lab: (dangling(lab), target(lab)), 4, "No such file", False),
    "links in a circle": (lambda lab: (loop_of_links(lab), target(lab)), 4, "", False),
    "a file as folder": (lambda lab: (source(lab) / "x", target(lab)), 4, "Not a dir", False),
    "a name too long": (lambda lab: ("x" * 300, target(lab)), 4, "too long", False),
    "directory as source": (lambda lab: (directory(lab), target(lab)), 3, "neither", False),
    "directory as destination": (lambda lab: (source(lab), directory(lab)), 3, "neither", False),
    "character device": (lambda lab: (source(lab), "/dev/null"), 3, "neither", False),
    "zeroes as source": (lambda lab: ("/dev/zero", target(lab)), 3, "neither", False),
    "fifo": (lambda lab: (fifo(lab), target(lab)), 3, "neither", False),
    "empty source": (lambda lab: (empty(lab), target(lab)), 3, "is empty", True),
    "empty destination": (lambda lab: (source(lab), empty(lab)), 3, "is empty", True),
    "file of the kernel": (lambda lab: ("/proc/mounts", target(lab)), 3, "is empty", True),
    "create what exists": (
        lambda lab: ("--create", "9M", source(lab), target(lab)), 2, "exists already", True,
    ),
    "create over a link": (
        lambda lab: ("--create", "9M", source(lab), dangling(lab)), 2, "exists already", True,
    ),
    "create where none can": (
        lambda lab: ("--create", "9M", source(lab), "/proc/x.img"), 4, "cannot create", True,
    ),
    "create too much": (
        lambda lab: ("--create", "7E", source(lab), lab.folder / "x"), 4, "cannot create", True,
    ),
    "blank source": (
        lambda lab: (lab.image("blank.img", MIB), target(lab)), 3, "nothing to clone", False,
    ),
    "noise as source": (lambda lab: (noise(lab), target(lab)), 3, "no known contents", True),
    "tiny source": (lambda lab: (lab.image("tiny", 100), target(lab)), 3, "nothing", False),
    "tiny destination": (lambda lab: (source(lab), lab.image("tiny", 100)), 3, "100 by", False),
    "disk onto a tiny one": (lambda lab: (disk(lab), lab.image("tiny", 513)), 3, "has 5", False),
    "raw onto a smaller one": (
        lambda lab: ("--engine", "raw", source(lab), lab.image("small", MIB)), 3, "raw", False,
    ),
}  # fmt: skip


def assert_one_line(run: Run, says: str, hint: bool | None = None) -> None:
    lines = run.err.splitlines()
    assert lines[0].startswith("bsync: "), run.err
    assert says in lines[0], run.err
    assert all(line.startswith("       ") for line in lines[1:]), run.err
    assert len(lines) <= 2, run.err
    if hint is not None:
        assert len(lines) == 1 + hint, run.err


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_is_said_in_a_line(lab: Lab, what: str) -> None:
    prepare, status, says, hint = WRONG[what]
    assert_one_line(lab.bsync(*prepare(lab), status=status), says, hint)


@pytest.mark.parametrize("command", ["inspect", "verify", "plan"])
def test_other_commands_say_it_the_same_way(lab: Lab, command: str) -> None:
    words = [lab.folder / "missing"] * (1 if command == "inspect" else 2)
    assert_one_line(lab.bsync(command, *words, status=4), "No such file")


@pytest.mark.parametrize("word", ["iscsi://host/iqn.2004-10.org.example:disk"])
def test_what_cannot_be_acquired_is_said(lab: Lab, word: str) -> None:
    for pair in ((word, target(lab)), (source(lab), word)):
        assert_one_line(lab.bsync(*pair, status=4), "iscsi")


# --- without privilege ------------------------------------------------------------------------


def unprivileged(lab: Lab, *words: str | Path) -> Run:
    """Run bsync as nobody."""
    return lab.within(
        "exec setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all "
        f"--bounding-set=-all {{python}} -m bsync {' '.join(map(str, words))}"
    )


@pytest.fixture
def open_lab(lab: Lab) -> Lab:
    """A lab in a folder that everybody may enter."""
    for folder in (lab.folder, *lab.folder.parents[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    return lab


@pytest.mark.parametrize("command", ["clone", "plan", "verify"])
@pytest.mark.parametrize("runtime", ["absent", "another's"])
def test_without_privilege(open_lab: Lab, command: str, runtime: str) -> None:
    lab = open_lab
    if runtime == "another's":
        lab.runtime.mkdir(mode=0o700)
    one, other = source(lab), target(lab)
    one.chmod(0o600)
    run = unprivileged(lab, command, one, other)
    assert run.status == 4, run
    assert_one_line(run, "", hint=True)
    assert "root" in run.err


def test_recover_without_privilege(open_lab: Lab) -> None:
    lab = open_lab
    lab.runtime.mkdir(mode=0o700)
    run = unprivileged(lab, "recover")
    assert run.status == 4, run
    assert_one_line(run, "ledgers", hint=True)


def test_a_directory_for_ledgers_that_cannot_be_made(lab: Lab) -> None:
    lab.runtime.write_text("a file is in the way")
    assert_one_line(lab.bsync(source(lab), target(lab), status=4), str(lab.runtime))
    lab.bsync("recover", status=4)
    lab.runtime.unlink()


@pytest.mark.parametrize("name", ["with blanks", "back\\slash", "new\nline", "a,comma", "link"])
def test_a_directory_for_ledgers_may_have_any_name(lab: Lab, name: str) -> None:
    """And is one thing by whatever path, since the kernel knows only one."""
    (lab.folder / "link").symlink_to("elsewhere")
    (lab.folder / "elsewhere").mkdir()
    one, other = source(lab), target(lab)
    for runtime in (os.path.relpath(lab.folder / name), str(lab.folder / name)):
        lab.environment["BSYNC_RUNTIME_DIR"] = runtime
        lab.bsync("--yes", one, other)
        lab.bsync("verify", one, other)
    assert not list((lab.folder / name).iterdir())


def test_a_tool_that_fails_is_named(lab: Lab) -> None:
    lab.stand_in("blkid", "exit 1", when="--probe")
    run = lab.bsync(source(lab), target(lab), status=4)
    assert_one_line(run, "blkid failed with status 1")


def test_a_source_that_cannot_be_read(lab: Lab) -> None:
    """It ends where its size says it does not."""
    image = bare(lab)
    with image.open("r+b") as file:
        file.truncate(2 * MIB)
    assert_one_line(lab.bsync(image, target(lab), status=3), "cut short")
