# SPDX-License-Identifier: GPL-2.0-only
"""Devices without a table: filesystems, swap and unknown contents from the first byte on."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from disks import MIB, assert_clone, fill, read, write
from lab import Lab, call
from trees import assert_same_tree


def filesystem(lab: Lab, name: str, size: int = 16 * MIB, label: str = "data") -> Path:
    image = lab.image(name, size)
    lab.make(image, None, "mke2fs", "-q", "-t", "ext4", "-L", label)
    with lab.mounted(image) as tree:
        (tree / "file").write_text("contents")
    return image


def test_over_another_filesystem_asks(lab: Lab) -> None:
    source, target = filesystem(lab, "source.img"), filesystem(lab, "target.img", label="precious")
    before = target.read_bytes()
    run = lab.bsync(source, target, status=3)
    assert "precious" in run.out
    assert "--yes" in run.err
    assert target.read_bytes() == before
    lab.bsync("--yes", source, target)
    assert_same_tree(lab, source, target)


@pytest.mark.parametrize("label", ["dos", "gpt"])
@pytest.mark.parametrize("engine", ["auto", "raw"])
def test_over_a_table_asks_and_leaves_nothing_of_it(lab: Lab, label: str, engine: str) -> None:
    source, target = filesystem(lab, "source.img"), lab.image("target.img", 24 * MIB)
    lab.table(target, f"label: {label}\n,8MiB,L\n,4MiB,S\n")
    before = target.read_bytes()
    run = lab.bsync("--engine", engine, source, target, status=3)
    assert f"{label} table with 2 partitions" in run.out
    assert target.read_bytes() == before
    lab.bsync("--yes", "--engine", engine, source, target)
    assert "identical" in lab.bsync("verify", source, target).out
    assert "ext4" in lab.bsync("inspect", target).out
    assert_same_tree(lab, source, target)
    assert "0 bytes transferred" in lab.bsync("--engine", engine, source, target).out


def test_disk_over_a_bare_filesystem_asks(lab: Lab) -> None:
    source, target = lab.image("source.img", 24 * MIB), filesystem(lab, "target.img", 24 * MIB)
    lab.table(source, "label: dos\n,16MiB,L\n")
    fill(lab, source)
    before = target.read_bytes()
    assert "ext4" in lab.bsync(source, target, status=3).out
    assert target.read_bytes() == before
    lab.bsync("--yes", source, target)
    assert_clone(lab, source, target)


def test_unknown_data_is_not_taken_for_blank(lab: Lab) -> None:
    source = filesystem(lab, "source.img")
    for number, at in enumerate((0, 5000, 16 * MIB - 600)):
        target = lab.image(f"target-{number}.img", 16 * MIB)
        write(target, at, b"something of somebody's")
        assert "unknown data" in lab.bsync(source, target, status=3).out
        lab.bsync("--yes", source, target)
        assert_same_tree(lab, source, target)


def other_filesystem(image: Path) -> None:
    """As much of a btrfs superblock as blkid looks at: magic and its own place."""
    write(image, 65536 + 0x40, b"_BHRfS_M")
    write(image, 65536 + 0x30, (65536).to_bytes(8, "little"))
    write(image, 65536 + 0x20, os.urandom(16))
    assert "btrfs" in call("blkid", "-p", image)


def test_signatures_of_other_filesystems_do_not_stay(lab: Lab) -> None:
    """btrfs keeps its superblock where an ext4 need not write for long."""
    source, target = filesystem(lab, "source.img", 128 * MIB), lab.image("target.img", 128 * MIB)
    other_filesystem(target)
    lab.bsync("--yes", source, target)
    assert "ext4" in call("blkid", "-p", target)
    assert "btrfs" not in call("wipefs", target)
    assert_same_tree(lab, source, target)


# --- swap ---------------------------------------------------------------------------------


def swap(lab: Lab, name: str, *options: str, size: int = 4 * MIB) -> Path:
    image = lab.image(name, size)
    lab.make(image, None, "mkswap", "-q", *options)
    return image


def identity(image: Path) -> bytes:
    """Version, bad pages, UUID and label of the swap header; the size is the area's own."""
    header = read(image, 1024, 512)
    return header[:4] + header[8:44]


LABELS = ("", "plain", "two words", "sixteen bytes la"[:15], "q'\"$`<>\\", "Zürich")


@pytest.mark.parametrize("label", LABELS)
def test_swap_is_made_anew_and_never_copied(lab: Lab, label: str) -> None:
    source, target = swap(lab, "source.img", "-L", label), lab.image("target.img", 7 * MIB)
    write(source, MIB, b"secrets that were swapped out" * 1000)
    assert "done: 0 files, 0 bytes transferred" in lab.bsync(source, target).out
    assert identity(target) == identity(source)
    assert read(target, 4086, 10) == b"SWAPSPACE2"
    assert int.from_bytes(read(target, 1028, 4), "little") == 7 * MIB // 4096 - 1
    assert b"secret" not in target.read_bytes()
    write(target, MIB, b"what the clone swapped out")
    before = target.read_bytes()
    assert "nothing to do" in lab.bsync(source, target).out
    assert target.read_bytes() == before
    assert "identical" in lab.bsync("verify", source, target).out


def test_swap_without_a_uuid(lab: Lab) -> None:
    source, target = swap(lab, "source.img", "-U", "clear"), lab.image("target.img", 4 * MIB)
    lab.bsync(source, target)
    assert identity(target) == identity(source)
    assert "nothing to do" in lab.bsync(source, target).out


def test_swap_with_another_uuid_follows(lab: Lab) -> None:
    source, target = swap(lab, "source.img", "-L", "one"), swap(lab, "target.img", "-L", "two")
    assert "two" in lab.bsync("inspect", target).out
    lab.bsync(source, target)  # swapped-out pages are nobody's loss
    assert identity(target) == identity(source)


def test_swap_over_a_filesystem_asks(lab: Lab) -> None:
    source, target = swap(lab, "source.img"), filesystem(lab, "target.img")
    before = target.read_bytes()
    lab.bsync(source, target, status=3)
    assert target.read_bytes() == before
    lab.bsync("--yes", source, target)
    assert "ext4" not in call("wipefs", target)


def test_hibernated_system_is_refused(lab: Lab) -> None:
    source, target = swap(lab, "source.img", "-L", "sleeps"), lab.image("target.img", 4 * MIB)
    write(source, 4086, b"S1SUSPEND\0")
    run = lab.bsync(source, target, status=3)
    assert "hibernation image" in run.err
    assert not target.read_bytes().strip(b"\0")


def test_hibernation_image_in_the_destination_is_a_loss(lab: Lab) -> None:
    source, target = swap(lab, "source.img"), swap(lab, "target.img")
    write(target, 4086, b"S1SUSPEND\0")
    assert "hibernation image" in lab.bsync(source, target, status=3).out
    lab.bsync("--yes", source, target)
    assert identity(target) == identity(source)


# --- contents of other kinds --------------------------------------------------------------


def test_other_filesystems_are_refused_by_name_or_copied_raw(lab: Lab) -> None:
    source, target = lab.image("source.img", 128 * MIB), lab.image("target.img", 136 * MIB)
    other_filesystem(source)
    write(source, 90 * MIB, os.urandom(MIB))
    assert "btrfs" in lab.bsync(source, target, status=3).err
    assert target.stat().st_blocks == 0
    lab.bsync("--raw", source, target)
    assert read(target, 0, 128 * MIB) == source.read_bytes()
    assert target.stat().st_blocks <= source.stat().st_blocks + 16384, "zeroes are not written"
    assert "identical" in lab.bsync("verify", source, target).out
    assert "done: 0 files, 0 bytes transferred" in lab.bsync("--raw", source, target).out


def test_unknown_contents_are_copied_raw(lab: Lab) -> None:
    source, target = lab.image("source.img", 9 * MIB + 512), lab.image("target.img", 9 * MIB + 512)
    write(source, 100, os.urandom(9 * MIB))
    assert "no known contents" in lab.bsync(source, target, status=3).err
    lab.bsync("--raw", source, target)
    assert target.read_bytes() == source.read_bytes()
    assert "0 bytes transferred" in lab.bsync("--raw", source, target).out
    write(source, 8 * MIB + 17, b"a change")  # its piece, and the first one, which comes last
    assert "done: 5 MiB transferred" in lab.bsync("--raw", source, target).out
    assert target.read_bytes() == source.read_bytes()
    write(target, 0, b"something else")
    before = target.read_bytes()
    assert "unknown data" in lab.bsync("--raw", source, target, status=3).out
    assert target.read_bytes() == before


def test_raw_onto_less_is_refused(lab: Lab) -> None:
    source, target = lab.image("source.img", 9 * MIB), lab.image("target.img", 9 * MIB - 512)
    write(source, 0, os.urandom(9 * MIB))
    run = lab.bsync("--raw", source, target, status=3)
    assert f"needs {9 * MIB} bytes" in run.err or "needs 9 MiB" in run.err
    assert not target.read_bytes().strip(b"\0")


def test_raw_partition_beside_filesystems(lab: Lab) -> None:
    source, target = lab.image("source.img", 48 * MIB), lab.image("target.img", 50 * MIB)
    parts = lab.table(source, "label: dos\n,12MiB,L\n,6MiB,7\n,8MiB,S\n,,L\n")
    fill(lab, source)
    write(source, parts[1].start, os.urandom(parts[1].size))
    run = lab.bsync(source, target, status=3)
    assert "source (partition 2): no known contents" in run.err
    assert not target.read_bytes().strip(b"\0")
    lab.bsync("--raw", source, target)
    one, two = (read(image, parts[1].start, parts[1].size) for image in (source, target))
    assert one == two
    for part in (parts[0], parts[3]):
        assert_same_tree(lab, source, target, part, part)
    assert "0 bytes transferred" in lab.bsync("--raw", source, target).out
    assert "identical" in lab.bsync("verify", source, target).out
    write(target, parts[1].start + 5 * MIB, b"changed")
    lab.bsync("verify", source, target, status=6)


def test_engine_raw_copies_what_files_would_refuse(lab: Lab) -> None:
    """A journal that needs recovery: with it, byte by byte, nothing is stale."""
    source, target = filesystem(lab, "source.img"), lab.image("target.img", 20 * MIB)
    lab.make(source, None, "debugfs", "-w", "-R", "feature needs_recovery")
    before = source.read_bytes()
    lab.bsync("--engine", "raw", source, target)
    assert read(target, 0, 16 * MIB) == before == source.read_bytes()
    assert "identical" in lab.bsync("verify", source, target).out
    assert "0 bytes transferred" in lab.bsync("--engine", "raw", source, target).out
    write(target, 9 * MIB, b"changed")
    assert "its bytes differ" in lab.bsync("verify", source, target, status=6).out
