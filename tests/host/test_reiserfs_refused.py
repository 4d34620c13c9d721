# SPDX-License-Identifier: GPL-2.0-only
"""ReiserFS where the kernel cannot mount it, as on most machines by now: said beforehand.

What a kernel does that can is for the vm tier to see.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import MIB, Lab, call, digest

SIZE = 64 * MIB
UUID = "11111111-2222-4333-8444-555555555555"


def reiser(lab: Lab, name: str = "source.img", *words: str) -> Path:
    image = lab.image(name, SIZE)
    call("mkreiserfs", "-q", "-f", "-f", "-u", UUID, "-l", "old", *words, image)
    return image


@pytest.fixture
def unable(lab: Lab) -> None:
    """A kernel that cannot, wherever this runs."""
    lab.stand_in(
        "mount", "echo \"mount: unknown filesystem type 'reiserfs'\" >&2; exit 32", "reiser"
    )


@pytest.mark.usefixtures("unable")
def test_it_is_refused_before_anything_is_written(lab: Lab) -> None:
    source, target = reiser(lab), lab.image("target.img", SIZE)
    before = digest(target)
    message, hint = lab.bsync(source, target, status=4).err.splitlines()
    assert "source (whole device) is a reiserfs, and this kernel cannot mount" in message
    assert "--engine raw" in hint
    assert digest(target) == before


@pytest.mark.usefixtures("unable")
def test_the_raw_engine_copies_it(lab: Lab) -> None:
    source, target = reiser(lab), lab.image("target.img", SIZE)
    lab.bsync("--engine", "raw", source, target)
    assert digest(source) == digest(target)
    assert "0 bytes transferred" in lab.bsync("--engine", "raw", source, target).out


@pytest.mark.usefixtures("unable")
def test_its_files_cannot_be_compared(lab: Lab) -> None:
    source, target = reiser(lab), lab.image("target.img", SIZE)
    lab.bsync("--engine", "raw", source, target)
    message, _ = lab.bsync("verify", source, target, status=4).err.splitlines()
    assert "this kernel cannot mount reiserfs" in message


def test_it_is_inspected_and_planned(lab: Lab) -> None:
    source, target = reiser(lab), lab.image("target.img", SIZE)
    assert f'reiserfs "old" {UUID}' in lab.bsync("inspect", source).out
    assert 'make reiserfs "old"' in lab.bsync("plan", source, target).out


def test_an_unclean_one_is_refused(lab: Lab) -> None:
    source, target = reiser(lab), lab.image("target.img", SIZE)
    with source.open("r+b") as file:
        file.seek(65536 + 50)
        file.write(b"\2\0")  # as from mounting to unmounting
    assert "was not unmounted" in lab.bsync(source, target, status=3).err
    assert "not clean" in lab.bsync("inspect", source).out


def test_the_old_format_is_refused(lab: Lab) -> None:
    source, target = lab.image("source.img", SIZE), lab.image("target.img", SIZE)
    call("mkreiserfs", "-q", "-f", "-f", "--format", "3.5", source)
    assert "format 3.5" in lab.bsync(source, target, status=3).err
