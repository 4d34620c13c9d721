# SPDX-License-Identifier: GPL-2.0-only
"""FAT goes onto a smaller place: what lies beyond its new end is moved, and found again there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from lab import MIB, Lab, call, digest

# MiB of source and destination, clusters of so many sectors
CASES = {12: (4, 2, 4), 16: (48, 24, 4), 32: (80, 40, 1)}


def make(lab: Lab, width: int) -> Path:
    """A filesystem whose files lie at its end, below directories that do, too."""
    size, _, cluster = CASES[width]
    image, chosen = lab.image("source.img", size * MIB), random.Random(width)
    call("mkfs.vfat", "-F", str(width), "-s", str(cluster), "-n", "EFI", "-i", "1234abcd", image)
    put = lab.folder / "put"
    put.write_bytes(bytes((size - 1) * MIB if width == 12 else (size - 5) * MIB))
    call("mcopy", "-i", image, put, "::filler")
    call("mmd", "-i", image, "::EFI", "::EFI/a folder with a long name")
    for number in range(40):
        put.write_bytes(chosen.randbytes(chosen.choice((0, 1, 700, 5000, 20_000))))
        call("mcopy", "-i", image, put, f"::EFI/a folder with a long name/file {number}")
    call("mattrib", "-i", image, "+h", "+s", "+r", "::EFI/a folder with a long name/file 3")
    call("mdel", "-i", image, "::filler")
    return image


def tree(image: Path) -> dict[str, object]:
    """Names with attributes, times and contents."""
    folder = image.parent / f"tree-{image.name}"
    call("rm", "-rf", folder)
    folder.mkdir()
    call("mcopy", "-s", "-p", "-m", "-Q", "-i", image, "::EFI", folder)
    files = {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime)
        for path in folder.rglob("*")
        if path.is_file()
    }
    said = call("mattrib", "-/", "-i", image, "::EFI").replace(str(image), "")
    listed = call("mdir", "-/", "-a", "-i", image, "::").partition("bytes free")[0]
    rows = [row for row in listed.splitlines() if "bytes" not in row or "file" in row]
    return {"files": files, "attributes": said, "listed": rows[:-1]}


def assert_clone(lab: Lab, source: Path, target: Path) -> None:
    assert "identical" in lab.bsync("verify", source, target).out
    call("fsck.vfat", "-n", target)
    assert tree(source) == tree(target)
    for name in ("TYPE", "UUID", "LABEL", "VERSION"):
        one, other = (call("blkid", "-p", "-s", name, "-o", "value", x) for x in (source, target))
        assert one == other
    before = digest(target)
    assert "nothing differs" in lab.bsync(source, target).out
    assert digest(target) == before


@pytest.mark.parametrize("width", CASES)
def test_a_smaller_place_gets_all_files_and_is_synchronised(lab: Lab, width: int) -> None:
    source, target = make(lab, width), lab.image("target.img", CASES[width][1] * MIB)
    before = digest(source)
    assert "copy vfat" in lab.bsync(source, target).out
    assert_clone(lab, source, target)
    assert digest(source) == before
    (lab.folder / "put").write_bytes(b"n" * 70_000)
    call("mcopy", "-i", source, lab.folder / "put", "::EFI/new")
    call("mdel", "-i", source, "::EFI/a folder with a long name/file 5")
    assert "synchronise vfat" in lab.bsync(source, target).out
    assert_clone(lab, source, target)


def test_a_copy_that_was_cut_off_is_completed(lab: Lab) -> None:
    source, target = make(lab, 16), lab.image("target.img", 24 * MIB)
    for count in (1, 2, 4, 6):
        assert lab.faulty("before-write", count, "KILL", source, target).status == -9
        lab.bsync("recover")
        lab.bsync("verify", source, target, status=6)
    lab.bsync(source, target)
    assert_clone(lab, source, target)


def test_files_that_do_not_fit_are_refused(lab: Lab) -> None:
    source, target = make(lab, 16), lab.image("target.img", 6 * MIB)
    assert "its files need" in lab.bsync(source, target, status=3).err
    assert target.stat().st_blocks == 0


def test_verify_sees_a_byte_that_decayed(lab: Lab) -> None:
    source, target = make(lab, 16), lab.image("target.img", 24 * MIB)
    lab.bsync(source, target)
    call("mattrib", "-i", target, "-r", "::EFI/a folder with a long name/file 3")
    assert "its blocks in use differ" in lab.bsync("verify", source, target, status=6).out
    lab.bsync(source, target)
    assert_clone(lab, source, target)


@pytest.mark.parametrize(
    ("at", "value"),
    [(44, 0x0FFFFFFF), (44, 3), (48, 0x00060009)],
    ids=["no root", "another root", "other places of copies"],
)
def test_a_damaged_source_is_refused_or_cloned(lab: Lab, at: int, value: int) -> None:
    source, target = make(lab, 32), lab.image("target.img", 40 * MIB)
    with source.open("r+b") as file:
        file.seek(at)
        file.write(value.to_bytes(4, "little"))
    run = lab.bsync(source, target, status=None)
    assert run.status in (0, 3, 4)
    if run.status:
        assert target.stat().st_blocks == 0
    else:
        assert "identical" in lab.bsync("verify", source, target).out
