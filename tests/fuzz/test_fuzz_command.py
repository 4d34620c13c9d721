# SPDX-License-Identifier: GPL-2.0-only
"""Damaged disks through the whole command, with everything that it starts and mounts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lab import Lab, warm
from mutations import (
    Damage,
    damaged,
    dos_damage,
    dos_disk,
    ext_disk,
    gpt_damage,
    gpt_disk,
    put,
    sb_damage,
    summed,
)
from small_disks import filesystems

MIB = 1 << 20
LONG = 120  # seconds
DONE, REFUSED, UNAVAILABLE, FAILED = 0, 3, 4, 5

WORDS = st.sampled_from(((), ("--raw",), ("--engine", "raw")))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One lab for all cases: each leaves it empty."""
    if os.geteuid() != 0:
        pytest.skip("this tier needs root, to attach loop devices and to mount")
    return Lab(tmp_path_factory.mktemp("workshop"))


def bsync(lab: Lab, *words: str | Path) -> int:
    """Run the command; its status, which is none that only a defect has."""
    ended, *said = warm().run(["bsync", *map(str, words)], lab.environment, limit=LONG)
    out, err = (text.decode(errors="replace") for text in said)
    assert "Traceback" not in out + err, out + err
    assert ended in (DONE, REFUSED, UNAVAILABLE, FAILED), out + err
    assert ended == DONE or err.startswith("bsync: "), out + err
    assert len(err.splitlines()) <= 2, out + err
    return ended


def image(folder: Path, name: str, data: bytes) -> Path:
    """A sparse file of `data`."""
    path = folder / name
    with path.open("wb") as file:
        file.truncate(len(data))
        for at in range(0, len(data), 4096):
            if any(data[at : at + 4096]):
                file.seek(at)
                file.write(data[at : at + 4096])
    return path


def cloned(lab: Lab, source: bytes, destination: bytes, words: Sequence[str]) -> int:
    """Clone one damaged disk onto another, and see who was changed."""
    here, there = (
        image(lab.folder, name, data) for name, data in (("here", source), ("there", destination))
    )
    try:
        status = bsync(lab, "--yes", *words, here, there)
        assert here.read_bytes() == source, "the source was changed"
        if status in (REFUSED, UNAVAILABLE):
            assert there.read_bytes() == destination, "it was refused after something was written"
        if status == DONE and not words:
            assert bsync(lab, *words, here, there) == DONE, "the second run asks or fails"
        if status == DONE and not words and is_clean(lab, here):
            for part in filesystems(lab, there):
                lab.assert_clean(there, part)
        lab.assert_nothing_left()
        return status
    finally:
        here.unlink()
        there.unlink()


def is_clean(lab: Lab, source: Path) -> bool:
    """Whether e2fsck finds nothing on the source: by blocks, its clone is no better."""
    try:
        for part in filesystems(lab, source):
            lab.assert_clean(source, part)
    except AssertionError:
        return False
    return True


def calm(start: int) -> Damage:
    """No filesystem of ours asks this machine's kernel to panic."""

    def damage(data: bytearray) -> None:
        put(data, start + 0x3C, 1, 2)
        summed(start)(data)

    return damage


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    found = {}
    for make in (dos_disk, gpt_disk, ext_disk):
        path = tmp_path_factory.mktemp("whole") / "image"
        make(path)
        found[make.__name__] = path.read_bytes()
    return found


@given(dos_damage(), WORDS)
@settings(max_examples=16)
def test_a_damaged_dos_disk_as_source(
    workshop: Lab, originals: dict[str, bytes], damage: list[Damage], words: tuple[str, ...]
) -> None:
    cloned(workshop, damaged(originals["dos_disk"], damage), bytes(12 * MIB), words)


@given(gpt_damage(), WORDS)
@settings(max_examples=12)
def test_a_damaged_gpt_disk_as_source(
    workshop: Lab, originals: dict[str, bytes], damage: list[Damage], words: tuple[str, ...]
) -> None:
    cloned(workshop, damaged(originals["gpt_disk"], damage), bytes(8 * MIB), words)


@given(sb_damage(1024))
@settings(max_examples=24)
def test_a_damaged_filesystem_as_source(
    workshop: Lab, originals: dict[str, bytes], damage: list[Damage]
) -> None:
    source = damaged(originals["ext_disk"], [*damage, calm(1024)])
    cloned(workshop, source, originals["gpt_disk"], ())


@given(sb_damage(1024))
@settings(max_examples=16)
def test_a_damaged_filesystem_as_destination(
    workshop: Lab, originals: dict[str, bytes], damage: list[Damage]
) -> None:
    """It may be what a power cut left of the mirror."""
    destination = damaged(originals["ext_disk"], [*damage, calm(1024)])
    cloned(workshop, originals["ext_disk"], destination, ())


@given(st.one_of(dos_damage(), dos_damage().map(lambda some: some[:1])))
@settings(max_examples=12)
def test_a_damaged_table_as_destination(
    workshop: Lab, originals: dict[str, bytes], damage: list[Damage]
) -> None:
    destination = damaged(originals["dos_disk"], damage)
    cloned(workshop, originals["dos_disk"], destination, ())


def test_the_originals_are_cloned(workshop: Lab, originals: dict[str, bytes]) -> None:
    """Or the tests above would only ever see refusals."""
    for source in originals.values():
        assert cloned(workshop, source, bytes(len(source)), ()) == DONE
