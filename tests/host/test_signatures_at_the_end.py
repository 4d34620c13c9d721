# SPDX-License-Identifier: GPL-2.0-only
"""Superblocks of RAIDs and tables at the end of a place, where they outlive what is written."""

from __future__ import annotations

import os
from pathlib import Path

from disks import MIB, SECTOR, read, write
from lab import Lab, call

KIB = 1024


def fat(size: int) -> bytes:
    """A FAT16 as far as blkid looks, with a few bytes of contents."""
    boot = bytearray(512)
    boot[:3], boot[3:11] = b"\xeb\x3c\x90", b"mkfs.fat"
    boot[11:13], boot[13], boot[14:16], boot[16] = b"\x00\x02", 4, b"\x04\x00", 2
    boot[17:19], boot[19:21], boot[21] = b"\x00\x02", (size // 512).to_bytes(2, "little"), 0xF8
    boot[22:24], boot[38], boot[39:43] = b"\x20\x00", 0x29, b"\x12\x34\x56\x78"
    boot[43:54], boot[54:62], boot[510:] = b"FAT        ", b"FAT16   ", b"\x55\xaa"
    return bytes(boot)


def md_superblock(image: Path, size: int, at: int = 0) -> None:
    """The superblock of version 0.90 of a member of `size` bytes that begins at `at`."""
    block = b"".join(n.to_bytes(4, "little") for n in (0xA92B4EFC, 0, 90, 0, 0, 0x1234))
    write(image, at + (size & ~65535) - 65536, block.ljust(4 * KIB, b"\0"))


def kind(image: Path) -> str:
    return call("blkid", "-p", "-o", "value", "-s", "TYPE", image).strip()


def test_a_superblock_at_the_end_goes_before_a_raw_copy(lab: Lab) -> None:
    source, target = lab.image("source.img", 10 * MIB), lab.image("target.img", 12 * MIB)
    write(source, 0, fat(10 * MIB) + os.urandom(100))
    md_superblock(target, 12 * MIB)
    assert kind(target) == "linux_raid_member"
    lab.bsync("--engine", "raw", "--yes", source, target)
    assert kind(target) == "vfat"
    assert read(target, 0, 10 * MIB) == source.read_bytes()
    before = target.read_bytes()
    assert "destroy" not in lab.bsync("--engine", "raw", source, target).out
    assert target.read_bytes() == before
    lab.bsync("verify", source, target)


def test_the_end_of_an_old_table_goes_before_a_raw_copy(lab: Lab) -> None:
    source, target = lab.image("source.img", 10 * MIB), lab.image("target.img", 12 * MIB)
    write(source, 0, fat(10 * MIB))
    lab.table(target, "label: gpt\n,,L\n")
    lab.bsync("--engine", "raw", "--yes", source, target)
    assert read(target, 12 * MIB - SECTOR, 8) == bytes(8)
    assert kind(target) == "vfat"


def test_a_member_that_ends_with_its_superblock_needs_the_same_size(lab: Lab) -> None:
    source, target = lab.image("source.img", 10 * MIB), lab.image("target.img", 12 * MIB)
    write(source, 0, os.urandom(MIB))
    md_superblock(source, 10 * MIB)
    run = lab.bsync("--engine", "raw", source, target, status=3)
    assert "ends with its superblock" in run.err
    same = lab.image("same.img", 10 * MIB)
    lab.bsync("--engine", "raw", source, same)
    assert same.read_bytes() == source.read_bytes()


def test_so_does_a_disk_of_drbd(lab: Lab) -> None:
    """Its metadata stand in the last 4 KiB."""
    source, target = lab.image("source.img", 10 * MIB), lab.image("target.img", 12 * MIB)
    write(source, 10 * MIB - 4 * KIB + 60, bytes.fromhex("8374026b"))
    assert kind(source) == "drbd"
    assert "ends with its superblock" in lab.bsync("--raw", source, target, status=3).err


def test_a_boot_sector_that_no_longer_fits_is_noted(lab: Lab) -> None:
    source, target = lab.image("source.img", 12 * MIB), lab.image("target.img", 20 * MIB)
    lab.table(source, "label: dos\n1 : start=2048, size=16384, type=6\n")
    lab.table(target, "label: dos\n1 : start=4096, size=16384, type=6\n")
    boot = bytearray(fat(8 * MIB))
    boot[0x1C:0x20] = (2048).to_bytes(4, "little")
    write(source, 2048 * SECTOR, bytes(boot))
    assert "hidden sectors" in lab.bsync("--engine", "raw", source, target).out
    same = lab.image("same.img", 20 * MIB)
    assert "hidden sectors" not in lab.bsync("--engine", "raw", source, same).out


def test_the_database_of_a_dynamic_disk_is_noted(lab: Lab) -> None:
    source, target = lab.image("source.img", 12 * MIB), lab.image("target.img", 12 * MIB)
    lab.table(source, "label: dos\n1 : start=63, size=16384, type=42\n")
    assert "LDM" in lab.bsync("--engine", "raw", source, target).out
