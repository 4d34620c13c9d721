# SPDX-License-Identifier: GPL-2.0-only
"""What files, disks and tools are called or say can neither steer a terminal nor forge a line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lab import Lab, Run
from small_disks import BARE_SIZE, bare, disk
from terminal import Terminal

EVIL = "\x1b[2J\x1b]0;title\x07\n  9. forged\r\x9b31m\u202e"


def assert_tame(text: str) -> None:
    assert all(c.isprintable() or c == "\n" for c in text), repr(text)
    assert "  9. forged" not in text.split("\n")


def both(run: Run) -> str:
    return run.out + run.err


def renamed(image: Path) -> Path:
    return image.rename(image.with_name(f"{EVIL}.img"))


@pytest.mark.parametrize("words", [("inspect",), ("inspect", "--json")])
def test_a_file_with_a_hostile_name_is_shown(lab: Lab, words: tuple[str, ...]) -> None:
    run = lab.bsync(*words, renamed(bare(lab)))
    assert "forged" in run.out
    assert_tame(both(run))


def test_a_clone_of_hostile_names(lab: Lab) -> None:
    source, target = renamed(bare(lab)), lab.image(f"target{EVIL}.img", BARE_SIZE)
    assert_tame(both(lab.bsync(source, target)))
    assert_tame(both(lab.bsync("verify", source, lab.image(f"blank{EVIL}.img", 9), status=None)))


@pytest.mark.parametrize("word", [f"/{EVIL}", f"iscsi://{EVIL}/{EVIL}", f"nbd://h/{EVIL}", EVIL])
def test_a_hostile_word(lab: Lab, word: str) -> None:
    run = lab.bsync(word, lab.image("target.img", BARE_SIZE), status=None)
    assert run.status
    assert_tame(both(run))
    assert len(run.err.splitlines()) <= 2


def test_a_hostile_tool(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.stand_in("wipefs", r"printf 'w: \033[2J\007 \302\233 said\n' >&2; exit 1", when="--all")
    run = lab.bsync(source, target, status=5)
    assert "wipefs failed with status 1: w: \\x1b[2J\\x07 \\x9b said" in run.err
    assert_tame(both(run))


def test_a_damaged_filesystem_has_a_hint(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.stand_in("wipefs", "echo 'wipefs: Structure needs cleaning' >&2; exit 1", when="--all")
    assert "run e2fsck -f" in lab.bsync(source, target, status=5).err


def test_hostile_names_on_a_terminal(lab: Lab) -> None:
    source = renamed(disk(lab))
    target = lab.image(f"target{EVIL}.img", source.stat().st_size)
    words = [sys.executable, "-m", "bsync", "--yes", str(source), str(target)]
    terminal = Terminal(words, lab.environment)
    terminal.read_until(lambda: False)
    assert terminal.child.wait() == 0, terminal.shown
    for sequence in (b"\x1b[2J", b"\x1b]0;", b"\x07", "\u202e".encode()):
        assert sequence not in terminal._shown
