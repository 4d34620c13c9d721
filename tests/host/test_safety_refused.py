# SPDX-License-Identifier: GPL-2.0-only
"""Source and destination that are the same, overlap, or are somebody else's: refused, in one
line with a hint, and nothing is written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import MIB, Lab, call, digest
from small_disks import BARE_SIZE, DISK_SIZE, bare, disk

_LOCK = struct.Struct("hhqqi0q")  # struct flock of fcntl(2)


def busy(lab: Lab, source: Path | str, target: Path | str, *images: Path) -> str:
    """Refused, since something else uses a side; the message."""
    return refused(lab, source, target, *images, status=8)


def refused(
    lab: Lab, source: Path | str, target: Path | str, *images: Path, status: int = 3
) -> str:
    """Refused by a run and by its plan alike, before anything was written; the message."""
    before = [digest(image) for image in images]
    run = lab.bsync("--yes", source, target, status=status)
    assert run.err == lab.bsync("plan", source, target, status=status).err
    message, hint = run.err.splitlines()
    assert message.startswith("bsync: ")
    assert hint.startswith("       ")
    assert before == [digest(image) for image in images]
    return message


# --- the same storage ----------------------------------------------------------------------


def test_a_file_onto_itself(lab: Lab) -> None:
    image = bare(lab)
    for name in (image, f"loop://{image}", image.parent / "." / image.name):
        assert "same storage" in refused(lab, image, name, image)


def test_a_file_onto_its_links(lab: Lab) -> None:
    image = bare(lab)
    hard, soft = lab.folder / "hard.img", lab.folder / "soft.img"
    os.link(image, hard)
    soft.symlink_to(image)
    assert "same storage" in refused(lab, image, hard, image)
    assert "same storage" in refused(lab, soft, hard, image)


def test_a_file_onto_a_loop_device_over_it(lab: Lab) -> None:
    image = bare(lab)
    with lab.attached(image, read_only=True) as one, lab.attached(image, read_only=True) as other:
        assert "same storage" in refused(lab, image, other, image)
        assert "same storage" in refused(lab, one, other, image)
        assert "same storage" in refused(lab, one, image, image)
    with lab.attached(image) as writable:
        assert "attached as" in busy(lab, image, writable, image)


def test_a_disk_onto_a_part_of_it_and_back(lab: Lab) -> None:
    image = disk(lab)
    part = lab.partitions(image)[0]
    with lab.attached(image, part, read_only=True) as device:
        assert "overlap" in refused(lab, image, device, image)
        assert "overlap" in refused(lab, device, image, image)


def test_two_overlapping_parts_of_one_file(lab: Lab) -> None:
    image = disk(lab)
    one, other = lab.partitions(image)[1:3]  # an extended partition, and one inside it
    with (
        lab.attached(image, one, read_only=True) as outer,
        lab.attached(image, other, read_only=True) as inner,
    ):
        assert "overlap" in refused(lab, inner, outer, image)
        assert "overlap" in refused(lab, outer, inner, image)


def test_a_loop_device_over_a_loop_device(lab: Lab) -> None:
    image = bare(lab)
    with (
        lab.attached(image, read_only=True) as lower,
        lab.attached(Path(lower), read_only=True) as upper,
    ):
        assert "same storage" in refused(lab, image, upper, image)


def test_two_parts_of_one_file_that_do_not_overlap_will_do(lab: Lab) -> None:
    image = lab.image("source.img", 2 * BARE_SIZE)
    one, other = lab.table(
        image, f"label: dos\nstart=2048, size={9 * 2048}\nstart={10 * 2048}, size={9 * 2048}\n"
    )
    lab.make(image, one, "mke2fs", "-q", "-t", "ext4")
    with lab.attached(image, one, read_only=True) as here, lab.attached(image, other) as there:
        lab.bsync(here, there)
        lab.bsync("verify", here, there)


# --- somebody else's -----------------------------------------------------------------------


def test_a_mounted_destination(lab: Lab) -> None:
    source, target = bare(lab), bare(lab, name="target.img")
    with lab.mounted(target):
        device = lab.loops_over(target)[0]
        assert "is mounted on" in busy(lab, source, device)
        assert "attached as" in busy(lab, source, target)


def test_a_mounted_source(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with lab.mounted(source):
        device = lab.loops_over(source)[0]
        assert "is mounted on" in busy(lab, device, target, target)
        assert "attached as" in busy(lab, source, target, target)


def test_a_disk_of_which_a_partition_is_mounted(lab: Lab) -> None:
    """Both ways: the whole for the part, and the part for the whole."""
    source, target = disk(lab), disk(lab, "target.img")
    part = lab.partitions(target)[0]
    with lab.mounted(target, part), lab.attached(target) as whole:
        assert "attached as" in busy(lab, source, whole)


def test_a_destination_attached_elsewhere(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with lab.attached(target):
        assert "attached as" in busy(lab, source, target, target)
    with lab.attached(target, read_only=True):
        assert "attached as" in busy(lab, source, target, target)


def test_a_source_attached_for_writing_elsewhere(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with lab.attached(source):
        assert "attached as" in busy(lab, source, target, target)
    with lab.attached(source, read_only=True):
        lab.bsync(source, target)


def test_a_destination_in_use_as_swap(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.make(target, None, "mkswap", "-q")
    with lab.attached(target) as device:
        call("swapon", device)
        try:
            assert "in use" in busy(lab, source, device)
        finally:
            call("swapoff", device)


@contextlib.contextmanager
def opened(image: Path, flags: int = os.O_RDWR) -> Iterator[int]:
    descriptor = os.open(image, flags)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("how", [fcntl.LOCK_SH, fcntl.LOCK_EX])
def test_a_destination_locked_by_another_program(lab: Lab, how: int) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with opened(target) as descriptor:
        fcntl.flock(descriptor, how)
        assert "locked" in busy(lab, source, target, target)


def test_a_source_locked_by_another_program(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with opened(source) as descriptor:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        lab.bsync(source, target)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert "locked" in busy(lab, source, target, target)


@pytest.mark.parametrize("role", ["source", "target"])
def test_a_disk_of_a_virtual_machine(lab: Lab, role: str) -> None:
    """QEMU locks bytes from 100 on of an image, shared, by its open file description."""
    images = {"source": bare(lab), "target": lab.image("target.img", BARE_SIZE)}
    with opened(images[role]) as descriptor:
        lock = _LOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 100, 4, 0)
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, lock)
        assert "locked" in busy(lab, images["source"], images["target"], *images.values())


def test_a_destination_that_another_bsync_is_at_work_on(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    other = bare(lab, name="other.img")
    with lab.held(source, target) as go_on:
        for first in (source, other):
            run = lab.bsync("--yes", first, target, status=8)
            assert "locked" in run.err
        assert "locked" in lab.bsync(target, lab.image("x.img", BARE_SIZE), status=8).err
        assert go_on().status == 0
    lab.bsync("verify", source, target)


def test_a_source_that_another_bsync_reads_will_do(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    other = lab.image("other.img", BARE_SIZE)
    with lab.held(source, target) as go_on:
        child = lab.start("plan", source, other)
        child.communicate()
        assert child.returncode == 0
        assert "locked" in lab.bsync("--yes", bare(lab, name="third.img"), source, status=8).err
        assert go_on().status == 0


def test_a_read_only_destination(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", DISK_SIZE)
    with lab.attached(target, read_only=True) as device:
        assert "read-only" in refused(lab, source, device, target)


def test_a_destination_held_exclusively(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 4 * MIB)
    with lab.attached(target) as device, opened(Path(device), os.O_RDWR | os.O_EXCL):
        assert "in use" in busy(lab, source, device, target)
