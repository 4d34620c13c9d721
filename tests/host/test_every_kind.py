# SPDX-License-Identifier: GPL-2.0-only
"""What every kind of filesystem goes through: a line in `KINDS` is all that a new one needs."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab import MIB, Lab, Part, call, digest

START, BEHIND = MIB, b"not to be written" * 1000


@dataclass(frozen=True)
class Kind:
    """How a test makes one, and puts files into it."""

    size: int  # MiB
    make: tuple[str, ...]  # followed by the device
    check: tuple[str, ...]  # the same
    put: Callable[[Lab, Path, Part, dict[str, bytes]], None]


def by_mount(lab: Lab, image: Path, part: Part, files: dict[str, bytes]) -> None:
    with lab.mounted(image, part) as tree:
        for name, data in files.items():
            (tree / name).write_bytes(data)


def by_mtools(lab: Lab, image: Path, part: Part, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (lab.folder / "put").write_bytes(data)
        call("mcopy", "-o", "-i", f"{image}@@{part.start}", lab.folder / "put", f"::{name}")


_FSCK = ("fsck.vfat", "-n")
KINDS = {
    "ext4": Kind(24, ("mkfs.ext4", "-q", "-F"), ("e2fsck", "-fn"), by_mount),
    "ext2": Kind(24, ("mkfs.ext2", "-q", "-F"), ("e2fsck", "-fn"), by_mount),
    "xfs": Kind(304, ("mkfs.xfs", "-q", "-f"), ("xfs_repair", "-n"), by_mount),
    "vfat16": Kind(20, ("mkfs.vfat", "-F", "16"), _FSCK, by_mtools),
    "vfat32": Kind(40, ("mkfs.vfat", "-F", "32", "-s", "1"), _FSCK, by_mtools),
}


def disk(lab: Lab, name: str, size: int, more: int = 0) -> tuple[Path, Part]:
    """A disk with one partition of `size` MiB, and room of `more` MiB that is in it, too."""
    image = lab.image(name, (size + more + 3) * MIB)
    table = f"label: dos\nlabel-id: 0x1234\nstart=2048, size={size + more}M, type=83\n"
    (part,) = lab.table(image, table)
    return image, part


def made(lab: Lab, kind: Kind) -> tuple[Path, Part]:
    image, part = disk(lab, "source.img", kind.size)
    lab.make(image, part, *kind.make)
    chosen = random.Random(1)
    files = {f"file-{number}": chosen.randbytes(number * 5000) for number in range(20)}
    kind.put(lab, image, part, files)
    return image, part


def assert_clone(lab: Lab, kind: Kind, source: Path, target: Path) -> None:
    """bsync says so, its own tool finds nothing, and another run writes nothing."""
    assert "identical" in lab.bsync("verify", source, target).out
    with lab.attached(target, lab.partitions(target)[0], read_only=True) as device:
        call(*kind.check, device)
    before = digest(target)
    assert "0 bytes transferred" in lab.bsync(source, target).out
    assert digest(target) == before


@pytest.mark.parametrize("name", KINDS)
def test_a_clone_is_made_synchronised_cut_off_and_completed(lab: Lab, name: str) -> None:
    """On a larger place, whether it grows there or not."""
    kind = KINDS[name]
    source, part = made(lab, kind)
    target, _ = disk(lab, "target.img", kind.size, more=16)
    assert lab.faulty("blocks:pwritev", 2, "KILL", source, target).status == -9
    lab.bsync("recover")
    lab.bsync("verify", source, target, status=6)
    lab.bsync(source, target)
    assert_clone(lab, kind, source, target)
    kind.put(lab, source, part, {"file-3": b"changed", "new": os.urandom(300_000)})
    lab.bsync("verify", source, target, status=6)
    before = digest(source)
    lab.bsync(source, target)
    assert_clone(lab, kind, source, target)
    assert digest(source) == before


@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_beginning_is_refused_or_cloned(lab: Lab, name: str) -> None:
    """And whatever it says, nothing but its partition is written."""
    kind, chosen = KINDS[name], random.Random(name)
    source, part = made(lab, kind)
    for number in range(4):
        at = part.start + (1024 if name.startswith("ext") else 0) + chosen.randrange(256)
        with source.open("r+b") as file:
            found = os.pread(file.fileno(), 1, at)
            os.pwrite(file.fileno(), bytes([found[0] ^ 1 << chosen.randrange(8)]), at)
        target, place = disk(lab, f"target-{number}.img", kind.size)
        with target.open("r+b") as file:
            os.pwrite(file.fileno(), BEHIND, place.start + place.size)
        run = lab.bsync("--yes", source, target, status=None)
        assert run.status in (0, 3, 4, 5), run.err
        if run.status == 0:
            assert "identical" in lab.bsync("verify", source, target).out
        with target.open("rb") as file:
            assert os.pread(file.fileno(), len(BEHIND), place.start + place.size) == BEHIND
        with source.open("r+b") as file:
            os.pwrite(file.fileno(), found, at)
        target.unlink()
