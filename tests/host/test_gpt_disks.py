# SPDX-License-Identifier: GPL-2.0-only
"""Disks with a GPT: names, GUIDs, attributes, and both headers."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from disks import MIB, SECTOR, assert_clone, fill, random_boot, read
from lab import Lab, call

LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
SWAP = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"
BIOS = "21686148-6449-6E6F-744E-656564454649"
SIZE = 80 * MIB

TABLE = f"""label: gpt
label-id: 11111111-2222-4333-8444-555555555555
table-length: 128
unit: sectors
1 : start=2048, size=2048, type={BIOS}, name="core"
2 : start=4096, size=51200, type={LINUX}, uuid=AAAAAAAA-0000-4000-8000-000000000002, \
name="r\\x22oo\\x22t ü €", attrs="RequiredPartition LegacyBIOSBootable GUID:48,63"
5 : start=55296, size=16384, type={SWAP}, uuid=AAAAAAAA-0000-4000-8000-000000000005
4 : start=75000, size=40001, type={LINUX}, name="36 characters, as many as there are.", \
attrs="GUID:60"
"""
FACTS = ("node", "type", "uuid", "name", "attrs")


def made(lab: Lab) -> Path:
    image = lab.image("source.img", SIZE)
    lab.table(image, TABLE)
    fill(lab, image)
    with image.open("r+b") as file:
        file.write(os.urandom(440))  # GRUB's boot code; the protective entry stays
        file.seek(2048 * SECTOR)
        file.write(os.urandom(MIB))
    return image


def facts(image: Path) -> dict[str, object]:
    """What sfdisk tells of the table, but for where it is and ends."""
    table = json.loads(call("sfdisk", "--json", image))["partitiontable"]
    rows = [{key: row.get(key) for key in FACTS} for row in table["partitions"]]
    for row in rows:
        row["node"] = row["node"].removeprefix(str(image))
    return {"id": table["id"], "first": table["firstlba"], "rows": rows}


def assert_sound(image: Path) -> None:
    """Both headers and both copies of the entries agree, and the second ends the disk."""
    assert "No problems found" in call("sgdisk", "-v", image)
    end = image.stat().st_size // SECTOR * SECTOR
    assert read(image, end - SECTOR, 8) == b"EFI PART"
    assert read(image, 510, 2) == b"\x55\xaa"
    protective = read(image, 446, 16)
    assert protective[4] == 0xEE
    assert int.from_bytes(protective[12:], "little") == end // SECTOR - 1


@pytest.mark.parametrize("more", [0, SECTOR, 45 * MIB])
def test_equal_and_larger_disks_get_the_table(lab: Lab, more: int) -> None:
    source, target = made(lab), lab.image("target.img", SIZE + more)
    lab.bsync(source, target)
    assert facts(target) == facts(source)
    assert lab.partitions(target) == lab.partitions(source)
    assert_sound(target)
    assert read(target, 2048 * SECTOR, MIB) == read(source, 2048 * SECTOR, MIB)
    assert "identical" in lab.bsync("verify", source, target).out
    assert_clone(lab, source, target)


def test_smaller_disk_gets_a_table_that_fits(lab: Lab) -> None:
    source, target = made(lab), lab.image("target.img", 44 * MIB)
    lab.bsync(source, target)
    assert facts(target) == facts(source)
    assert_sound(target)
    assert lab.partitions(target)[0] == lab.partitions(source)[0], "GRUB's core stays in its place"
    assert_clone(lab, source, target)


def test_compatible_table_stays(lab: Lab) -> None:
    source, target = made(lab), lab.image("target.img", SIZE + 40 * MIB)
    own = re.sub("(?m)^label-id.*|uuid=[^,]*, |, uuid=.*|, name=.*", "", TABLE)
    own = own.replace("start=75000, size=40001", "start=100000, size=90000")
    lab.table(target, f"{own}7 : start=200000, size=2048, type={LINUX}\n")
    before, places = facts(target), lab.partitions(target)
    assert "table: set what differs" in lab.bsync(source, target).out
    assert lab.partitions(target) == places
    after, wanted = facts(target), facts(source)
    assert after["id"] == wanted["id"]
    assert isinstance(after["rows"], list)
    assert isinstance(before["rows"], list)
    assert after["rows"][:-1] == wanted["rows"], "what it boots by: PARTUUIDs, names, attributes"
    assert after["rows"][-1] == before["rows"][-1], "the source has no such partition"
    assert_sound(target)
    assert_clone(lab, source, target)


def test_boot_partition_elsewhere_is_refused(lab: Lab) -> None:
    """GRUB's boot code has the sector of its core in it."""
    source, target = made(lab), lab.image("target.img", SIZE + 40 * MIB)
    own = re.sub("(?m)^label-id.*|uuid=[^,]*, |, uuid=.*|, name=.*", "", TABLE)
    moved = own.replace("1 : start=2048, size=2048", "1 : start=140000, size=4096")
    lab.table(target, moved)
    before = target.read_bytes()
    assert "partition 1 by sector" in lab.bsync(source, target, status=3).err
    assert target.read_bytes() == before


def test_too_small_a_disk_is_refused_with_both_figures(lab: Lab) -> None:
    source, target = made(lab), lab.image("target.img", 12 * MIB)
    run = lab.bsync(source, target, status=3)
    assert re.search(r"the source needs [0-9.]+ MiB, the destination has 12 MiB", run.err)
    assert not target.read_bytes().strip(b"\0")


def test_gpt_over_dos_asks(lab: Lab) -> None:
    source, target = made(lab), lab.image("target.img", SIZE)
    lab.table(target, "label: dos\n,40MiB,L\n,,E\n,20MiB,L\n")
    random_boot(target)
    before = target.read_bytes()
    lab.bsync(source, target, status=3)
    assert target.read_bytes() == before
    lab.bsync("--yes", source, target)
    assert_sound(target)
    assert_clone(lab, source, target)


@pytest.mark.parametrize("length", [4, 256])
def test_number_of_entries_is_kept(lab: Lab, length: int) -> None:
    source, target = lab.image("source.img", 40 * MIB), lab.image("target.img", 50 * MIB)
    lab.table(source, f"label: gpt\ntable-length: {length}\n,20MiB,L\n")
    fill(lab, source)
    lab.bsync(source, target)
    for image in (source, target):
        assert int.from_bytes(read(image, SECTOR + 80, 4), "little") == length
    assert_sound(target)
    assert_clone(lab, source, target)


def test_first_partition_right_after_the_table(lab: Lab) -> None:
    source, target = lab.image("source.img", 40 * MIB), lab.image("target.img", 50 * MIB)
    lab.table(source, "label: gpt\nfirst-lba: 34\n1 : start=34, size=65501, type=L\n")
    fill(lab, source)
    lab.bsync(source, target)
    assert lab.partitions(target) == lab.partitions(source)
    assert_sound(target)
    assert_clone(lab, source, target)
