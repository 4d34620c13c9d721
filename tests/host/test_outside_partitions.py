# SPDX-License-Identifier: GPL-2.0-only
"""What stands outside the partitions: boot loaders, what boots, both copies of a GPT."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from disks import MIB, SECTOR, fill, read, write
from lab import Lab, call

LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
FAR = f"label: gpt\n1 : start=32768, size=16384, type={LINUX}\n"
ROCKCHIP = {64: 70_001, 16384: 300_000}  # sectors, and bytes of a boot loader there


def table_and_files(lab: Lab, name: str, table: str, size: int = 40 * MIB) -> Path:
    image = lab.image(name, size)
    lab.table(image, table)
    fill(lab, image)
    return image


def with_loaders(lab: Lab) -> Path:
    source = table_and_files(lab, "source.img", FAR)
    for sector, size in ROCKCHIP.items():
        write(source, sector * SECTOR, os.urandom(size))
    return source


def sound(image: Path) -> bool:
    return "No problems found" in call("sgdisk", "-v", image)


def test_loaders_before_a_far_first_partition_are_copied(lab: Lab) -> None:
    source, target = with_loaders(lab), lab.image("target.img", 45 * MIB)
    lab.bsync(source, target)
    start, size = 34 * SECTOR, (32768 - 34) * SECTOR
    assert read(target, start, size) == read(source, start, size)
    assert target.stat().st_blocks <= source.stat().st_blocks + 256, "holes stay holes"
    assert sound(target)
    assert "identical" in lab.bsync("verify", source, target).out
    before = target.read_bytes()
    assert "boot code" not in lab.bsync(source, target).out
    assert target.read_bytes() == before
    write(target, 16384 * SECTOR + 200_000, b"virus")
    said = lab.bsync("verify", source, target, status=6)
    assert "before the first partition differs" in said.out + said.err
    lab.bsync(source, target)
    assert target.read_bytes() == before


def test_there_is_no_limit_to_what_stands_before_the_first_partition(lab: Lab) -> None:
    far = f"label: gpt\n1 : start=131072, size=16384, type={LINUX}\n"
    source = table_and_files(lab, "source.img", far, 80 * MIB)
    write(source, 50 * MIB, b"far out")
    target = lab.image("target.img", 80 * MIB)
    lab.bsync(source, target)
    assert read(target, 50 * MIB, 7) == b"far out"
    write(target, 50 * MIB, b"far off")
    lab.bsync("verify", source, target, status=6)


def test_a_partition_of_the_destination_stands_where_the_loader_goes(lab: Lab) -> None:
    source = with_loaders(lab)
    target = table_and_files(lab, "target.img", FAR.replace("start=32768", "start=2048"))
    before = target.read_bytes()
    run = lab.bsync("--yes", source, target, status=3)
    assert "would overwrite partition 1 of the destination" in run.err
    assert "wipefs -a" in run.err
    assert target.read_bytes() == before


def test_a_partition_that_the_source_lacks_is_not_written_over(lab: Lab) -> None:
    """It stands in the gap, where the source's boot loader would go."""
    source = table_and_files(lab, "source.img", "label: dos\n1 : start=2048, size=32768\n")
    write(source, 0, os.urandom(440))
    write(source, SECTOR, os.urandom(60_000))
    own = "label: dos\n1 : start=40960, size=32768\n2 : start=63, size=20000\n"
    target = table_and_files(lab, "target.img", own)
    before = target.read_bytes()
    run = lab.bsync("--yes", source, target, status=3)
    assert "would overwrite partition 2 of the destination: ext2" in run.err
    assert target.read_bytes() == before


def test_a_kept_table_boots_what_the_source_boots(lab: Lab) -> None:
    rows = (
        "label: dos\nlabel-id: 0x{}\n1 : start=2048, size=16384{}\n2 : start=20480, size=16384{}\n"
    )
    source = table_and_files(lab, "source.img", rows.format("1111", "", ", bootable"))
    target = table_and_files(lab, "target.img", rows.format("1111", ", bootable", ""), 60 * MIB)
    run = lab.bsync("verify", source, target, status=6)
    assert "partition 1 has another active flag" in run.out + run.err
    assert "the active partition is the source's" in lab.bsync("--yes", source, target).out
    assert [read(target, 446 + 16 * index, 1)[0] for index in range(4)] == [0, 0x80, 0, 0]
    assert "identical" in lab.bsync("verify", source, target).out


def test_the_protective_entry_and_attributes_of_a_gpt_are_the_sources(lab: Lab) -> None:
    source = table_and_files(lab, "source.img", FAR)
    target = lab.image("target.img", 60 * MIB)
    lab.bsync(source, target)
    call("sfdisk", "--part-attrs", source, "1", "LegacyBIOSBootable,GUID:50")
    write(source, 446, b"\x80")  # as `parted disk_set pmbr_boot on` does
    run = lab.bsync("verify", source, target, status=6)
    assert "other attributes" in run.out + run.err
    assert "the protective MBR differs" in run.out + run.err
    lab.bsync(source, target)
    assert read(target, 446, 12) == read(source, 446, 12)
    assert "GUID:50" in call("sfdisk", "--part-attrs", target, "1")
    assert sound(target)
    assert "identical" in lab.bsync("verify", source, target).out


PRIMARY, ENTRIES, LAST = SECTOR + 16, 2 * SECTOR + 60, -SECTOR + 30


@pytest.mark.parametrize("at", [PRIMARY, ENTRIES, LAST, -20 * SECTOR], ids=str)
@pytest.mark.parametrize("damaged", ["source", "target"])
def test_a_damaged_copy_of_a_gpt_is_named_and_mended(lab: Lab, at: int, damaged: str) -> None:
    source, target = table_and_files(lab, "source.img", FAR), lab.image("target.img", 50 * MIB)
    lab.bsync(source, target)
    image = source if damaged == "source" else target
    place = at % image.stat().st_size
    write(image, place, bytes(255 - byte for byte in read(image, place, 4)))
    before = source.read_bytes()
    if damaged == "target":
        run = lab.bsync("verify", source, target, status=6)
        assert "damaged" in run.out + run.err
    assert "damaged" in lab.bsync(source, target).out
    assert sound(target)
    assert source.read_bytes() == before
    lab.bsync("verify", source, target)


def test_a_second_copy_in_the_middle_goes_to_the_end(lab: Lab) -> None:
    source, target = table_and_files(lab, "source.img", FAR), lab.image("target.img", 40 * MIB)
    lab.bsync(source, target)
    os.truncate(target, 55 * MIB)
    assert "not at the end of the disk" in lab.bsync(source, target).out
    assert sound(target)


def test_two_damaged_copies_are_no_table(lab: Lab) -> None:
    source, target = table_and_files(lab, "source.img", FAR), lab.image("target.img", 40 * MIB)
    write(source, SECTOR, bytes(8))
    write(source, 40 * MIB - SECTOR, bytes(8))
    run = lab.bsync(source, target, status=3)
    assert "protective MBR" in run.err
    lab.bsync("--raw", source, target)
    assert target.read_bytes() == source.read_bytes()


def test_a_record_inside_a_partition_is_refused(lab: Lab) -> None:
    """Old partitioning tools made such: writing the partition would destroy the table."""
    rows = ("4 : start=2048, size=60000, type=5", "5 : start=4096, size=8192")
    table = "\n".join(("label: dos", *rows, "6 : start=20480, size=8192", ""))
    source, target = table_and_files(lab, "source.img", table), lab.image("target.img", 40 * MIB)
    first = read(source, 2048 * SECTOR, SECTOR)
    link = int.from_bytes(first[470:474], "little")
    inside = 5000 - 2048
    write(source, 2048 * SECTOR + 470, inside.to_bytes(4, "little"))
    second = bytearray(read(source, (2048 + link) * SECTOR, SECTOR))
    second[454:458] = (20480 - 5000).to_bytes(4, "little")
    write(source, 5000 * SECTOR, bytes(second))
    run = lab.bsync("inspect", source)
    assert "the record of partition 6 lies in partition 5" in run.out
    assert "the record of partition 6" in lab.bsync(source, target, status=3).err
    assert not target.read_bytes().strip(b"\0")
    blank = table_and_files(lab, "good.img", table)
    before = source.read_bytes()
    assert "the record of partition 6" in lab.bsync(blank, source, status=3).out
    assert source.read_bytes() == before
