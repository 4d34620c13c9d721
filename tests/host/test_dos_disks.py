# SPDX-License-Identifier: GPL-2.0-only
"""Disks with a DOS table: primary, extended and logical partitions of every make."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from disks import (
    EXTENDED,
    LINUX,
    MIB,
    SECTOR,
    assert_clone,
    fill,
    names,
    outside,
    pairs,
    random_boot,
    read,
    records,
    write,
)
from lab import Lab, call

HEAD = "label: dos\nlabel-id: 0x{:08x}\nunit: sectors\n"
SIZE = 96 * MIB

# Sectors.  Logical partitions get their numbers by the order in which they are written here.
LAYOUTS = {
    "one-primary": "1 : start=2048, size=65536, type=83, bootable",
    "three-primaries": (
        "1 : start=2048, size=32768, type=83\n2 : start=34816, size=8192, type=82\n"
        "3 : start=43008, size=65536, type=83, bootable"
    ),
    "extended-with-2": (
        "1 : start=2048, size=32768, type=83\n2 : start=34816, size=131072, type=5\n"
        "5 : start=36864, size=40960, type=83\n6 : start=79872, size=40960, type=83"
    ),
    "extended-with-4": (
        "1 : start=2048, size=20480, type=83, bootable\n2 : start=22528, size=8192, type=82\n"
        "3 : start=30720, size=20480, type=83\n4 : start=51200, size=143360, type=f\n"
        "5 : start=53248, size=32768, type=83\n6 : start=88064, size=32768, type=83\n"
        "7 : start=122880, size=8192, type=82\n8 : start=133120, size=32768, type=83"
    ),
    "type-85": (
        "1 : start=2048, size=131072, type=85\n5 : start=4096, size=32768, type=83\n"
        "6 : start=38912, size=32768, type=83"
    ),
    "extended-before-primaries": (
        "1 : start=2048, size=81920, type=5\n2 : start=83968, size=32768, type=83\n"
        "5 : start=4096, size=32768, type=83\n6 : start=38912, size=32768, type=83\n"
        "3 : start=116736, size=32768, type=83"
    ),
    "extended-between-primaries": (
        "1 : start=2048, size=20480, type=83\n2 : start=22528, size=81920, type=5\n"
        "5 : start=24576, size=32768, type=83\n6 : start=59392, size=8192, type=82\n"
        "4 : start=104448, size=40960, type=83"
    ),
    "entries-not-in-disk-order": (
        "1 : start=83968, size=40960, type=83\n2 : start=2048, size=32768, type=83\n"
        "4 : start=43008, size=32768, type=83, bootable"
    ),
    "hole-between": (
        "1 : start=4096, size=32768, type=83\n3 : start=120000, size=40001, type=83"
    ),
    "logical-not-in-disk-order": (
        "1 : start=2048, size=20480, type=83\n4 : start=22528, size=153600, type=5\n"
        "5 : start=120832, size=32768, type=83\n6 : start=24576, size=32768, type=83\n"
        "7 : start=71680, size=32768, type=83"
    ),
    "cylinders": (
        "1 : start=63, size=48132, type=83, bootable\n2 : start=48195, size=112455, type=5\n"
        "5 : start=48258, size=40000, type=83\n6 : start=96453, size=16002, type=82\n"
        "7 : start=112518, size=40001, type=83"
    ),
    "empty-extended": (
        "1 : start=2048, size=40960, type=83\n2 : start=43008, size=40960, type=5"
    ),
    "hidden-and-odd-types": (
        "1 : start=2048, size=40961, type=83\n2 : start=43010, size=24577, type=83\n"
        "3 : start=70001, size=20001, type=82"
    ),
}  # fmt: skip


def made(lab: Lab, name: str, size: int = SIZE) -> Path:
    image = lab.image("source.img", size)
    lab.table(image, HEAD.format(0x1234ABCD) + LAYOUTS[name])
    fill(lab, image)
    random_boot(image, 10_000)
    return image


@pytest.mark.parametrize("name", LAYOUTS)
def test_blank_larger_disk_gets_the_table_byte_for_byte(lab: Lab, name: str) -> None:
    source = made(lab, name)
    target = lab.image("target.img", SIZE + 32 * MIB + SECTOR)
    lab.bsync(source, target)
    for at in records(source):
        assert read(target, at, SECTOR) == read(source, at, SECTOR), f"the record at {at}"
    assert len(records(source)) == len([p for p in lab.partitions(source) if p.number > 4]) + (
        2 if name == "empty-extended" else 1
    )
    assert read(target, SECTOR, 10_000) == read(source, SECTOR, 10_000)
    assert lab.partitions(target) == lab.partitions(source)
    assert_clone(lab, source, target)


@pytest.mark.parametrize("name", LAYOUTS)
def test_smaller_disk_gets_a_table_that_fits(lab: Lab, name: str) -> None:
    source = made(lab, name)
    end = max(part.start + part.size for part in lab.partitions(source))
    target = lab.image("target.img", end * 7 // 10 // MIB * MIB + 5 * SECTOR)
    run = lab.bsync(source, target)
    assert "partitions shrink" in run.out
    for here, there in pairs(lab, source, target):
        assert there.size <= here.size
        if here.type not in (*LINUX, *EXTENDED):
            assert there.size >= here.size // MIB * MIB, "only filesystems shrink"
    assert [part.number for part in lab.partitions(target)] == [
        part.number for part in lab.partitions(source)
    ]
    assert bootable(target) == bootable(source)
    assert "identical" in lab.bsync("verify", source, target).out
    assert_clone(lab, source, target)


def bootable(image: Path) -> list[bytes]:
    return [read(image, 446 + 16 * index, 1) for index in range(4)]


COMPATIBLE = (
    "1 : start=4096, size=24576, type=83\n2 : start=32768, size=150000, type=f\n"
    "3 : start=190000, size=20000, type=7\n"
    "5 : start=36864, size=40960, type=83\n6 : start=79872, size=50961, type=83\n"
)
COMPATIBLE_SOURCE = (
    "1 : start=2048, size=20480, type=83, bootable\n2 : start=22528, size=102400, type=5\n"
    "5 : start=24576, size=40960, type=83\n6 : start=67584, size=40960, type=83"
)


def test_compatible_layout_keeps_its_own_table(lab: Lab) -> None:
    source, target = lab.image("source.img", SIZE), lab.image("target.img", 120 * MIB)
    lab.table(source, HEAD.format(1) + COMPATIBLE_SOURCE)
    fill(lab, source)
    random_boot(source)
    lab.table(target, HEAD.format(2) + COMPATIBLE)
    write(target, 3_000, os.urandom(2_000_000))
    third = next(part for part in lab.partitions(target) if part.number == 3)
    write(target, third.start, os.urandom(third.size))
    before, parts = outside(lab, target), lab.partitions(target)
    kept = read(target, third.start, third.size)

    run = lab.bsync(source, target)
    assert "This will destroy" not in run.out, (
        "a table that stays and blank partitions: no question"
    )
    assert lab.partitions(target) == parts
    assert bootable(target) == bootable(source)
    gap = read(source, SECTOR, 79 * SECTOR)  # 40,000 bytes take so many
    there = outside(lab, target)
    after = before[0][512 + len(gap) :]
    active = b"\x80" + before[0][447:512]  # the first partition is, as on the source
    assert there[0] == read(source, 0, 446) + active + gap + after
    assert there[1:] == before[1:], "the EBRs and what is between are the destination's own"
    assert read(target, third.start, third.size) == kept, "a partition more is nobody's business"
    assert_clone(lab, source, target)


def test_gap_that_the_boot_loader_does_not_fit_in_is_refused(lab: Lab) -> None:
    source, target = lab.image("source.img", SIZE), lab.image("target.img", SIZE)
    lab.table(source, HEAD.format(1) + "1 : start=2048, size=40960, type=83")
    fill(lab, source)
    random_boot(source, 100_000)
    lab.table(target, HEAD.format(2) + "1 : start=63, size=60000, type=83")
    before = target.read_bytes()
    run = lab.bsync(source, target, status=3)
    assert "98 KiB" in run.err
    assert "partition 1 of the destination" in run.err
    assert target.read_bytes() == before


def test_own_smaller_partitions_are_adopted(lab: Lab) -> None:
    source, target = lab.image("source.img", SIZE), lab.image("target.img", 50 * MIB)
    lab.table(source, HEAD.format(1) + COMPATIBLE_SOURCE)
    fill(lab, source)
    small = (
        "1 : start=2048, size=16384, type=83\n2 : start=18432, size=81920, type=f\n"
        "5 : start=20480, size=24576, type=83\n6 : start=47104, size=24576, type=83\n"
    )
    parts = lab.table(target, HEAD.format(2) + small)
    run = lab.bsync(source, target)
    assert "This will destroy" not in run.out
    assert [(part.start, part.size) for part in lab.partitions(target)] == [
        (part.start, part.size) for part in parts
    ]
    assert_clone(lab, source, target)


def test_too_small_a_disk_is_refused_with_both_figures(lab: Lab) -> None:
    source = made(lab, "three-primaries")
    big = os.urandom(20 * MIB)
    with lab.mounted(source, lab.partitions(source)[2]) as tree:
        (tree / "big").write_bytes(big)
    target = lab.image("target.img", 26 * MIB)
    write(target, 0, os.urandom(26 * MIB))
    before = target.read_bytes()
    run = lab.bsync("--yes", source, target, status=3)
    assert "the source needs" in run.err
    assert "the destination has 26 MiB" in run.err
    assert target.read_bytes() == before


def test_own_table_that_is_too_small_is_replaced_only_when_asked(lab: Lab) -> None:
    """Its partitions do not do, but its disk would: the whole table goes there."""
    source, target = made(lab, "extended-with-2"), lab.image("target.img", SIZE)
    lab.table(target, HEAD.format(2) + "1 : start=2048, size=40960, type=83")
    lab.make(target, lab.partitions(target)[0], "mke2fs", "-q", "-t", "ext4", "-L", "precious")
    before = target.read_bytes()
    run = lab.bsync(source, target, status=3)
    assert "precious" in run.out
    assert "This will destroy" in run.out
    assert "not confirmed" in run.err
    assert target.read_bytes() == before
    lab.bsync("--yes", source, target)
    assert lab.partitions(target) == lab.partitions(source)
    assert_clone(lab, source, target)


def test_disk_over_a_bare_filesystem_asks(lab: Lab) -> None:
    source, target = made(lab, "one-primary"), lab.image("target.img", SIZE)
    lab.make(target, None, "mke2fs", "-q", "-t", "ext4", "-L", "precious")
    before = target.read_bytes()
    assert "precious" in lab.bsync(source, target, status=3).out
    assert target.read_bytes() == before
    lab.bsync("--yes", source, target)
    assert_clone(lab, source, target)


def test_disk_over_a_gpt_asks_and_leaves_nothing_of_it(lab: Lab) -> None:
    source, target = made(lab, "one-primary"), lab.image("target.img", SIZE + 8 * MIB)
    lab.table(target, "label: gpt\n,,L\n")
    lab.bsync(source, target, status=3)
    lab.bsync("--yes", source, target)
    assert b"EFI PART" not in target.read_bytes()
    assert_clone(lab, source, target)


def test_first_logical_partition_was_deleted(lab: Lab) -> None:
    """The first record stays, and holds nothing but the link to the next one."""
    source, target = made(lab, "extended-with-2"), lab.image("target.img", SIZE)
    first = records(source)[1]
    write(source, first + 446, bytes(16))
    assert [part.number for part in lab.partitions(source)] == [1, 2, 5]
    lab.bsync(source, target)
    for at in records(source):
        assert read(target, at, SECTOR) == read(source, at, SECTOR)
    assert_clone(lab, source, target)


def test_swap_and_filesystems_follow_a_new_uuid_only_when_asked(lab: Lab) -> None:
    source, target = made(lab, "three-primaries"), lab.image("target.img", SIZE)
    lab.bsync(source, target)
    one, two, _ = lab.partitions(source)
    with lab.attached(source, one) as device:
        call("e2fsck", "-f", "-p", device)
        call("tune2fs", "-U", "random", device)
    lab.make(source, two, "mkswap", "-q", "-L", "another")
    run = lab.bsync(source, target, status=3)
    assert "destination (partition 1): " in run.out
    lab.bsync("--yes", source, target)
    assert names(lab, target, two)["LABEL"] == "another"
    assert_clone(lab, source, target)


def test_no_partitions_at_all(lab: Lab) -> None:
    source, target = lab.image("source.img", 8 * MIB), lab.image("target.img", 8 * MIB)
    lab.table(source, HEAD.format(7))
    write(source, 0, os.urandom(440))
    lab.bsync(source, target)
    assert target.read_bytes() == source.read_bytes()
