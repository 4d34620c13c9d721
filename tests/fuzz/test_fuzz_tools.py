# SPDX-License-Identifier: GPL-2.0-only
"""Damaged disks through a survey with the real sfdisk and blkid, and the planner: 900 cases.

Every case ends as a plan or as an expected error, in bounded time, and no byte of the image
has changed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from mutations import (
    Damage,
    damaged,
    dos_damage,
    dos_disk,
    ext_disk,
    gpt_damage,
    gpt_disk,
    sb_damage,
)

from bsync.acquire.block import opened
from bsync.errors import BsyncError
from bsync.explain import plan_data
from bsync.locate import DevicePath
from bsync.model.layout import Blank, Side, bare
from bsync.plan import Options, make_plan
from bsync.screen.layouts import layout_text
from bsync.screen.plans import plan_text
from bsync.survey import survey

MIB = 1 << 20
LONG = 60  # seconds; a survey of a small image takes a fraction of one


@dataclass(frozen=True)
class Original:
    """A real image: its file, and what was in it."""

    path: Path
    data: bytes


def _original(factory: pytest.TempPathFactory, make: Callable[[Path], None]) -> Original:
    path = factory.mktemp("fuzz") / "image"
    make(path)
    return Original(path, path.read_bytes())


@pytest.fixture(scope="module")
def dos(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return _original(tmp_path_factory, dos_disk)


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return _original(tmp_path_factory, gpt_disk)


@pytest.fixture(scope="module")
def ext(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return _original(tmp_path_factory, ext_disk)


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """What does not end is a failure, not a red CI job hours later."""

    def expired(_number: int, _frame: FrameType | None) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, expired)
    signal.alarm(LONG)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def judged(original: Original, damage: Sequence[Damage]) -> None:
    """Survey the damaged image, plan with it in both roles, and look whether it changed."""
    data = damaged(original.data, damage)
    _write(original.path, original.data, data)
    try:
        with bounded():
            with contextlib.suppress(BsyncError):
                _plan(original.path)
            assert original.path.read_bytes() == data, "the image was changed"
    finally:
        _write(original.path, data, original.data)


def _write(path: Path, before: bytes, after: bytes) -> None:
    """Only what differs, in pages: the file stays sparse."""
    with path.open("r+b") as file:
        for at in range(0, len(after), 4096):
            if before[at : at + 4096] != after[at : at + 4096]:
                file.seek(at)
                file.write(after[at : at + 4096])


def _plan(path: Path) -> None:
    with opened(DevicePath(os.fspath(path)), writable=False) as device:
        side = survey(device)
    layout_text(side)
    size = side.layout.size
    blank = Side("blank", "file", bare(size, 512, Blank()))
    small = Side("small", "file", bare(size // 2, 512, Blank()))
    raw = Options(raw=True)
    for source, destination in ((side, blank), (side, side), (blank, side), (side, small)):
        with contextlib.suppress(BsyncError):
            plan = make_plan(source, destination, raw)
            plan_text(plan)
            json.dumps(plan_data(plan))


@given(dos_damage())
@settings(max_examples=350)
def test_dos_tables(dos: Original, damage: list[Damage]) -> None:
    judged(dos, damage)


@given(gpt_damage())
@settings(max_examples=250)
def test_gpt_tables(gpt: Original, damage: list[Damage]) -> None:
    judged(gpt, damage)


@given(sb_damage(1024))
@settings(max_examples=200)
def test_bare_filesystems(ext: Original, damage: list[Damage]) -> None:
    judged(ext, damage)


@given(sb_damage(MIB + 1024))
@settings(max_examples=100)
def test_filesystems_in_partitions(dos: Original, damage: list[Damage]) -> None:
    judged(dos, damage)


def test_the_originals_are_understood(dos: Original, gpt: Original, ext: Original) -> None:
    """Or the tests above would only ever see refusals."""
    for original, words in ((dos, "dos table"), (gpt, "gpt table"), (ext, "ext4 ")):
        with opened(DevicePath(os.fspath(original.path)), writable=False) as device:
            assert words in layout_text(survey(device))
        judged(original, [])
