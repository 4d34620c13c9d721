# SPDX-License-Identifier: GPL-2.0-only
"""What looks like a table and is none, and what a clone cannot take along, by its name."""

from __future__ import annotations

import os

from disks import MIB, SECTOR, fill, read, write
from lab import Lab, call

ENTRY = bytes((0x80, 0, 0, 0, 0x83, 0, 0, 0)) + (2048).to_bytes(4, "little")


def test_the_boot_sector_of_a_filesystem_is_no_table(lab: Lab) -> None:
    source, target = lab.image("source.img", 16 * MIB), lab.image("target.img", 16 * MIB)
    call("mke2fs", "-q", "-t", "ext4", source)
    for entry in (b"", ENTRY):  # none, and one of size 0
        write(source, 0, os.urandom(440) + bytes(6) + entry.ljust(64, b"\0") + b"\x55\xaa")
        assert "ext4" in lab.bsync("inspect", source).out
        assert "partition table" not in lab.bsync("inspect", source).out
        lab.bsync("--yes", source, target)
    size = (8192).to_bytes(4, "little")
    write(source, 446, ENTRY + size)
    assert "partition table" in lab.bsync("inspect", source).out


def test_an_entry_without_a_size_is_left_out(lab: Lab) -> None:
    source, target = lab.image("source.img", 16 * MIB), lab.image("target.img", 16 * MIB)
    lab.table(source, "label: dos\n1 : start=2048, size=16384\n")
    fill(lab, source)
    write(source, 446 + 16, ENTRY)
    lab.bsync(source, target)
    assert read(target, 446, 66) == read(source, 446, 66)
    lab.bsync("verify", source, target)


def test_an_image_of_a_disk_with_large_sectors_is_named(lab: Lab) -> None:
    image, target = lab.image("source.img", 16 * MIB), lab.image("target.img", 16 * MIB)
    lab.table(image, "label: gpt\n,,L\n")
    header = read(image, SECTOR, SECTOR)
    write(image, SECTOR, bytes(4096 - SECTOR) + header)
    write(image, 16 * MIB - SECTOR, bytes(SECTOR))
    assert "sectors of 4096 bytes" in lab.bsync(image, target, status=3).err


def test_what_stands_behind_a_filesystem_is_noted(lab: Lab) -> None:
    source, target = lab.image("source.img", 20 * MIB), lab.image("target.img", 20 * MIB)
    call("mke2fs", "-q", "-t", "ext4", source, "16M")
    assert "verity" not in lab.bsync("plan", source, target).out
    write(source, 16 * MIB, os.urandom(4096))
    assert "behind its filesystem" in lab.bsync("plan", source, target).out


def test_lilo_on_a_clone_by_files_is_noted(lab: Lab) -> None:
    source, target = lab.image("source.img", 40 * MIB), lab.image("target.img", 40 * MIB)
    lab.table(source, "label: dos\n1 : start=2048, size=32768\n")
    fill(lab, source)
    write(source, 0, b"\xfa\xeb\x21\x01\xb4\x01LILO")
    assert "run lilo" in lab.bsync("plan", "--engine", "files", source, target).out
    assert "run lilo" not in lab.bsync("plan", "--engine", "blocks", source, target).out


def test_what_is_mounted_may_be_looked_at(lab: Lab) -> None:
    """Its device and the file below; nothing else is done with it."""
    source = lab.image("source.img", 16 * MIB)
    call("mke2fs", "-q", "-t", "ext4", "-L", "busy", source)
    with lab.mounted(source) as tree:
        (device,) = lab.loops_over(source)
        said = lab.bsync("inspect", device).out
        assert f"mounted on {tree}" in " ".join(said.split())
        assert 'ext4 "busy"' in said
        assert 'ext4 "busy"' in lab.bsync("inspect", source).out
        lab.bsync("plan", device, lab.image("target.img", 16 * MIB), status=8)
