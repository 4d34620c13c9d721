# SPDX-License-Identifier: GPL-2.0-only
"""Disks with sectors of 4096 bytes, and tables that count in them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import MIB, Lab, Part, call, wait_until

SIZE = 96 * MIB
LARGE = 4096
TABLES = {
    "dos": "label: dos\np1: size=24MiB, type=83, bootable\np2: size=56MiB, type=5\n"
    "p5: size=24MiB, type=83\np6: size=8MiB, type=82\n",
    "gpt": "label: gpt\nsize=24MiB, name=one\nsize=24MiB\nsize=8MiB, type=swap\n",
}


@contextlib.contextmanager
def disk_of(image: Path, sector: int, *mode: str) -> Iterator[str]:
    """The image as a disk with sectors of that many bytes."""
    words = ("losetup", "--find", "--show", "--sector-size", str(sector), *mode)
    device = call(*words, image).strip()
    try:
        yield device
    finally:
        call("losetup", "--detach", device)
        backing = Path(f"/sys/block/{Path(device).name}/loop/backing_file")
        wait_until(lambda: not backing.exists(), lambda: f"{device} stays attached")


def parts(device: str) -> list[tuple[int, int, str]]:
    """Start and size in bytes, and the type, of what sfdisk sees."""
    said = call("sfdisk", "--json", device)
    table = json.loads(said[said.index("{") :])["partitiontable"]
    unit = table["sectorsize"]
    return [(row["start"] * unit, row["size"] * unit, row["type"]) for row in table["partitions"]]


def made(lab: Lab, kind: str, sector: int, name: str = "source.img", block: int = LARGE) -> Path:
    """A disk with filesystems in it, and swap."""
    image = lab.image(name, SIZE)
    tree = lab.folder / f"tree-{name}"
    tree.mkdir()
    (tree / "file").write_text("x" * 10_000)
    with disk_of(image, sector) as device:
        call("sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", device, given=TABLES[kind])
        found = parts(device)
    for number, (start, size, type_) in enumerate(found):
        with lab.attached(image, Part(number, start, size, type_)) as inner:
            if type_ in ("82", "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"):
                call("mkswap", "-q", inner)
            elif type_ != "5":
                call("mke2fs", "-q", "-t", "ext4", "-b", str(block), "-d", tree, inner)
    return image


@pytest.mark.parametrize("kind", TABLES)
def test_a_disk_with_large_sectors_is_cloned(lab: Lab, kind: str) -> None:
    source, target = made(lab, kind, LARGE), lab.image("target.img", SIZE)
    with disk_of(source, LARGE, "--read-only") as one, disk_of(target, LARGE) as other:
        lab.bsync(one, other)
        assert parts(one) == parts(other)
        assert call("sfdisk", "--verify", other)
        lab.bsync("verify", one, other)
        assert "done: 0 files, 0 bytes transferred" in lab.bsync(one, other).out


@pytest.mark.parametrize("kind", TABLES)
@pytest.mark.parametrize("sector", [512, LARGE])
def test_a_table_is_not_taken_to_other_sectors(lab: Lab, kind: str, sector: int) -> None:
    """Neither by a copy of it, nor where the destination's own is too small for boot code."""
    source, target = made(lab, kind, sector), lab.image("target.img", SIZE)
    there = 512 + LARGE - sector
    with disk_of(source, sector, "--read-only") as one, disk_of(target, there) as other:
        run = lab.bsync("--yes", one, other, status=3)
        assert f"sectors of {sector} bytes, the destination of {there}" in run.err
        assert len(run.err.splitlines()) == 2
    assert target.stat().st_blocks == 0


@pytest.mark.parametrize("kind", TABLES)
def test_a_table_of_the_destinations_own_may_have_other_sectors(lab: Lab, kind: str) -> None:
    """There is no boot code that counts in them, and filesystems do not."""
    source, target = made(lab, kind, 512), made(lab, kind, LARGE, "target.img")
    with disk_of(source, 512, "--read-only") as one, disk_of(target, LARGE) as other:
        before = parts(other)
        lab.bsync("--yes", one, other)
        assert parts(other) == before
        lab.bsync("verify", one, other)
        assert "done: 0 files, 0 bytes transferred" in lab.bsync(one, other).out


def test_small_blocks_do_not_go_onto_large_sectors(lab: Lab) -> None:
    """mke2fs would make such a filesystem in a file, but no kernel mounts it there."""
    source, target = lab.image("source.img", SIZE), lab.image("target.img", SIZE)
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4", "-b", "1024")
    with disk_of(target, LARGE) as other:
        run = lab.bsync("--yes", source, other, status=3)
        assert "blocks of 1024 bytes, and the destination has sectors of 4096" in run.err
    assert target.stat().st_blocks == 0


def test_an_image_of_a_disk_with_large_sectors_names_a_way(lab: Lab) -> None:
    """A file does not tell its sectors: a loop device does."""
    source, target = made(lab, "gpt", LARGE), lab.image("target.img", SIZE)
    run = lab.bsync(source, target, status=3)
    assert "a GPT for sectors of 4096 bytes" in run.err
    assert "losetup --find --show --sector-size 4096 FILE" in run.err


# --- a GPT and more -------------------------------------------------------------------------


@pytest.fixture
def hybrid(lab: Lab) -> Path:
    image = made(lab, "gpt", 512)
    call("sgdisk", "--hybrid=1", image)
    return image


def test_a_hybrid_mbr_is_not_lost_unsaid(lab: Lab, hybrid: Path) -> None:
    assert "hybrid MBR" in lab.bsync("inspect", hybrid).out
    target = lab.image("target.img", SIZE)
    run = lab.bsync("--yes", hybrid, target, status=3)
    assert "hybrid MBR" in run.err
    assert "--raw" in run.err
    assert target.stat().st_blocks == 0
    lab.bsync("--raw", hybrid, target)
    assert hybrid.read_bytes() == target.read_bytes()


def test_a_hybrid_mbr_on_the_destination_is_asked_for(lab: Lab, hybrid: Path) -> None:
    source = made(lab, "gpt", 512, "other.img")
    assert "hybrid MBR" in lab.bsync("plan", source, hybrid).out
    lab.bsync(source, hybrid, status=3)
    lab.bsync("--yes", source, hybrid)
    lab.bsync("verify", source, hybrid)
