# SPDX-License-Identifier: GPL-2.0-only
"""Runs whose writes are logged: the host plays them back in part (test_volatile_caches.py)."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import write_log
from aftermath import Case, blank, changed_mirror
from lab import MIB, call
from rig import Rig
from small_disks import BARE_SIZE, DISK_SIZE, bare, copied, disk, overwrite

OUT = Path("/out")


@contextlib.contextmanager
def logging(disk: str, log: str, size: int) -> Iterator[str]:
    """A device of `size` bytes over the disk, whose writes go into the log as well."""
    call("modprobe", "dm-log-writes")
    table = f"0 {size // write_log.SECTOR} log-writes {disk} {log}"
    call("dmsetup", "create", "logged", "--table", table)
    try:
        call("udevadm", "settle")
        yield "/dev/mapper/logged"
    finally:
        call("udevadm", "settle")
        call("dmsetup", "remove", "logged")


def recorded(rig: Rig, name: str, case: Case) -> None:
    """Clone, and keep for the host: the source, what the destination was, and the log."""
    target, log = rig.disk(0), rig.disk(1)
    rig.put(case.before, target)
    with logging(target, log, case.before.stat().st_size) as device:
        rig.bsync(*case.words, case.source, device)
    folder = OUT / name
    folder.mkdir()
    shutil.copy(case.source, folder / "source.img")
    shutil.copy(case.before, folder / "before.img")
    with Path(log).open("rb") as file, (folder / "log").open("wb") as kept:
        left = write_log.length(file)
        file.seek(0)
        while left:
            left -= kept.write(file.read(min(left, MIB)))


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_a_first_clone(rig: Rig, engine: str) -> None:
    rig.engine = engine
    recorded(rig, f"first-{engine}", blank(rig, disk(rig)))


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_a_synchronisation(rig: Rig, engine: str) -> None:
    rig.engine = engine
    recorded(rig, f"later-{engine}", changed_mirror(rig, disk(rig)))


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_a_clone_in_place_of_others(rig: Rig, engine: str) -> None:
    rig.engine = engine
    case = Case(disk(rig), disk(rig, "before.img"), ("--yes",))
    recorded(rig, f"other-{engine}", case)


def raw_copy(rig: Rig, name: str) -> Path:
    """An image of something that bsync copies byte by byte."""
    image = rig.image(name, BARE_SIZE)
    call("mkfs.vfat", "-i", "12345678", image)
    overwrite(image, 1 * MIB, os.urandom(9 * MIB))
    return image


def test_raw_copies(rig: Rig) -> None:
    case = Case(raw_copy(rig, "source.img"), rig.image("blank.img", BARE_SIZE), ("--engine", "raw"))
    recorded(rig, "first-raw", case)
    before = copied(case.source, "before.img")
    for place in (MIB, 2 * MIB, 9 * MIB):
        overwrite(case.source, place, os.urandom(300_000))
    recorded(rig, "later-raw", Case(case.source, before, ("--engine", "raw")))
    call("cp", case.source, before)
    overwrite(before, 2 * MIB, os.urandom(MIB))
    recorded(rig, "later-raw-beginning", Case(case.source, before, ("--engine", "raw")))


def test_a_clone_that_grows(rig: Rig) -> None:
    source = bare(rig)
    recorded(rig, "grown", Case(source, rig.image("before.img", DISK_SIZE)))
