# SPDX-License-Identifier: GPL-2.0-only
"""FAT goes by its blocks in use, without a driver of the kernel."""

from __future__ import annotations

import random
import re
from pathlib import Path
from shutil import which

import pytest
from lab import MIB, Lab, Part, call, digest

from bsync.filesystems.fat import superblock, tables

SIZES = {12: 4, 16: 48, 32: 80}  # MiB
DELETED = b"what a deleted file had " * 9000
Files = dict[str, bytes]


def make(image: Path, width: int, *options: str, offset: int = 0) -> None:
    """A filesystem in a part of `image` that begins at a byte."""
    assert which("mkfs.vfat"), "apt-get install dosfstools"
    sectors = [] if offset == 0 else ["--offset", str(offset // 512)]
    words = ["-F", str(width), "-n", "EFI", "-i", "1234abcd", *options, *sectors]
    call("mkfs.vfat", *words, image, str(SIZES[width] * 1024))


def put(image: Path, name: str, data: bytes, folder: Path, offset: int = 0) -> None:
    (folder / "put").write_bytes(data)
    call("mcopy", "-o", "-i", f"{image}@@{offset}", folder / "put", f"::{name}")


def fill(image: Path, folder: Path, offset: int = 0) -> Files:
    """Files, a directory, and what once was a file."""
    assert which("mcopy"), "apt-get install mtools"
    chosen = random.Random(1)
    put(image, "deleted", DELETED, folder, offset)
    call("mmd", "-i", f"{image}@@{offset}", "::EFI")
    files = {
        f"EFI/a long name {number}.efi": chosen.randbytes(chosen.choice((1, 5000, 90_000)))
        for number in range(12)
    }
    for name, data in files.items():
        put(image, name, data, folder, offset)
    call("mdel", "-i", f"{image}@@{offset}", "::deleted")
    return files


def files_of(image: Path, names: Files, offset: int = 0) -> Files:
    """What files of these names hold."""
    found = {}
    for name in names:
        call("mcopy", "-n", "-o", "-i", f"{image}@@{offset}", f"::{name}", image.parent / "got")
        found[name] = (image.parent / "got").read_bytes()
    return found


def assert_clone(lab: Lab, source: Path, target: Path) -> None:
    assert "identical" in lab.bsync("verify", source, target).out
    call("fsck.vfat", "-n", target)
    before = digest(target)
    assert "0 bytes transferred" in lab.bsync(source, target).out
    assert digest(target) == before


@pytest.mark.parametrize("width", SIZES)
def test_a_clone_has_the_clusters_in_use_and_no_others(lab: Lab, width: int) -> None:
    size = SIZES[width] * MIB
    source, target = lab.image("source.img", size), lab.image("target.img", size + 3 * MIB)
    make(source, width)
    files, before = fill(source, lab.folder), digest(source)
    said = lab.bsync(source, target).out
    assert "copy vfat" in said
    assert digest(source) == before
    assert_clone(lab, source, target)
    assert files_of(target, files) == files
    assert DELETED[:100] in source.read_bytes()
    assert DELETED[:100] not in target.read_bytes()
    files["EFI/new"] = b"n" * 70_000
    put(source, "EFI/new", files["EFI/new"], lab.folder)
    assert "synchronise vfat" in lab.bsync(source, target).out
    assert_clone(lab, source, target)
    assert files_of(target, files) == files


@pytest.mark.parametrize(
    "width", [16, 32]
)  # with 12 bits partclone 0.3.23 counts both tables as one
def test_another_program_knows_of_no_other_cluster_in_use(lab: Lab, width: int) -> None:
    assert which("partclone.vfat"), "apt-get install partclone"
    image, listed = lab.image("source.img", SIZES[width] * MIB), lab.folder / "map"
    make(image, width)
    fill(image, lab.folder)
    with lab.attached(image, read_only=True) as device:
        call("partclone.vfat", "-q", "-L", "/dev/null", "-D", "-s", device, "-O", listed)
    data = image.read_bytes()
    read = lambda at, size: data[at : at + size]  # noqa: E731
    found = tables.allocation(read, superblock.parse(data[:512]))
    ours = set(found.ranges.numbers().tolist())
    theirs = {
        sector
        for first, count in re.findall(
            r"^(0x\w+)\s+(0x\w+)\s+\+$", listed.read_text(), re.MULTILINE
        )
        for sector in range(int(first, 16) // 512, (int(first, 16) + int(count, 16)) // 512)
    }
    assert theirs <= ours


def test_the_clone_says_where_it_begins(lab: Lab) -> None:
    """With both boot sectors, as firmware and other systems may need it."""
    size, here, there = SIZES[32] * MIB, MIB, 3 * MIB
    source, target = (lab.image(name, size + 4 * MIB) for name in ("source.img", "target.img"))
    for image, start in ((source, here), (target, there)):
        lab.table(image, f"label: dos\nstart={start // 512}, size={size // 512}, type=c\n")
    make(source, 32, "-h", str(here // 512), offset=here)
    files = fill(source, lab.folder, here)
    said = lab.bsync(source, target).out
    assert "begins at sector 2048, that of the clone: at 6144" in said
    assert files_of(target, files, there) == files
    with target.open("rb") as file:
        for sector in (0, 6):
            file.seek(there + sector * 512)
            assert int.from_bytes(file.read(512)[28:32], "little") == there // 512
    assert "identical" in lab.bsync("verify", source, target).out
    before = digest(target)
    lab.bsync(source, target)
    assert digest(target) == before


def test_a_default_uefi_disk(lab: Lab) -> None:
    """An EFI system partition, an ext4 and a swap area, without any option."""
    source, target = lab.image("source.img", 128 * MIB), lab.image("target.img", 160 * MIB)
    esp, root, swap = lab.table(
        source,
        f"label: gpt\nstart=2048, size={SIZES[16]}M, type=U\nsize=40M, type=L\nsize=20M, type=S\n",
    )
    make(source, 16, offset=esp.start)
    files = fill(source, lab.folder, esp.start)
    lab.make(source, root, "mkfs.ext4", "-q")
    lab.make(source, swap, "mkswap", "-q")
    lab.bsync(source, target)
    assert "identical" in lab.bsync("verify", source, target).out
    assert files_of(target, files, esp.start) == files
    before = digest(target)
    assert "0 bytes transferred" in lab.bsync(source, target).out
    assert digest(target) == before


@pytest.mark.parametrize("label", ["gpt", "dos"])
def test_a_default_uefi_disk_onto_a_smaller_one(lab: Lab, label: str) -> None:
    """Its EFI system partition shrinks as its ext4 does."""
    source, target = lab.image("source.img", 192 * MIB), lab.image("target.img", 96 * MIB)
    types = ("U", "L", "S") if label == "gpt" else ("ef", "83", "82")
    sizes = zip(("64M", "100M", "20M"), types, strict=True)
    rows = "".join(f"size={size}, type={type_}\n" for size, type_ in sizes)
    esp, root, swap = lab.table(source, f"label: {label}\n{rows}")
    make(source, 16, offset=esp.start)
    files = fill(source, lab.folder, esp.start)
    lab.make(source, root, "mkfs.ext4", "-q")
    lab.make(source, swap, "mkswap", "-q")
    lab.bsync(source, target)
    small = lab.partitions(target)[0]
    assert small.size < SIZES[16] * MIB
    assert files_of(target, files, small.start) == files
    call("fsck.vfat", "-n", extracted(lab, target, small))
    assert "identical" in lab.bsync("verify", source, target).out


def extracted(lab: Lab, image: Path, part: Part) -> Path:
    found = lab.folder / "part.img"
    found.write_bytes(image.read_bytes()[part.start : part.start + part.size])
    return found


def test_one_that_was_not_unmounted_is_cloned_as_it_is(lab: Lab) -> None:
    source, target = (lab.image(name, SIZES[16] * MIB) for name in ("source.img", "target.img"))
    make(source, 16)
    fill(source, lab.folder)
    with source.open("r+b") as file:
        file.seek(0x25)
        file.write(b"\1")
    assert "was not unmounted cleanly; it is cloned as it is" in lab.bsync(source, target).out
    assert "identical" in lab.bsync("verify", source, target).out


def test_a_clone_that_was_cut_off_is_taken_for_none(lab: Lab) -> None:
    source, target = (lab.image(name, SIZES[16] * MIB) for name in ("source.img", "target.img"))
    make(source, 16)
    fill(source, lab.folder)
    lab.bsync(source, target)
    put(source, "new", b"n" * 70_000, lab.folder)
    run = lab.faulty("blocks:pwritev", 2, "KILL", source, target)
    assert run.status == -9
    lab.bsync("recover")
    assert call("blkid", "-p", target, ok=(2,)) == ""
    assert "an incomplete clone" in lab.bsync("inspect", target).out
    lab.bsync(source, target)
    assert_clone(lab, source, target)


def test_another_one_with_the_same_serial_number_is_somebodys(lab: Lab) -> None:
    source, target = lab.image("source.img", 48 * MIB), lab.image("target.img", 80 * MIB)
    make(source, 16)
    make(target, 32)
    before = digest(target)
    lab.bsync(source, target, status=3)
    assert digest(target) == before


def test_verify_sees_a_byte_that_decayed(lab: Lab) -> None:
    source, target = (lab.image(name, SIZES[16] * MIB) for name in ("source.img", "target.img"))
    make(source, 16)
    files = fill(source, lab.folder)
    lab.bsync(source, target)
    decayed = target.read_bytes()
    at = decayed.index(max(files.values(), key=len)[:512])
    target.write_bytes(decayed[:at] + bytes([decayed[at] ^ 1]) + decayed[at + 1 :])
    assert "its blocks in use differ" in lab.bsync("verify", source, target, status=6).out
    lab.bsync(source, target)
    assert_clone(lab, source, target)
