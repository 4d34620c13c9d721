# SPDX-License-Identifier: GPL-2.0-only
"""A sector that cannot be read while a side is looked at is said, and taken for nothing else."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import MIB, SECTOR, Lab, call, digest, wait_until
from small_disks import bare


@contextlib.contextmanager
def failing(lab: Lab, image: Path, sector: int) -> Iterator[Path]:
    """The image as a file that gives EIO where this sector is read."""
    error = {"event": "none", "iotype": "read", "errno": 5, "sector": sector, "once": False}
    nodes = (
        {"driver": "file", "filename": str(image), "node-name": "file", "locking": "off"},
        {"driver": "blkdebug", "node-name": "bad", "image": "file", "inject-error": [error]},
        {"driver": "raw", "node-name": "raw", "file": "bad"},
    )
    path = lab.image("failing.img", 0)
    words = [word for node in nodes for word in ("--blockdev", json.dumps(node))]
    export = f"type=fuse,id=fuse,node-name=raw,writable=on,mountpoint={path}"
    daemon = subprocess.Popen(["qemu-storage-daemon", *words, "--export", export])
    try:
        wait_until(lambda: path.stat().st_size > 0, lambda: "no export")
        yield path
    finally:
        daemon.terminate()
        daemon.wait()


def formatted(lab: Lab, name: str, kind: str) -> Path:
    """An ext4, or a DOS disk with one in logical partition 5."""
    if kind == "ext4":
        return bare(lab, name=name)
    image = lab.image(name, 64 * MIB)
    lab.table(image, "label: dos\nstart=2048,size=65536,type=5\nstart=4096,size=40960,type=83\n")
    lab.make(image, lab.partitions(image)[1], "mke2fs", "-q", "-t", "ext4")
    return image


# A superblock; what else might be there (VMFS has its own 2 MiB on); the MBR; an EBR; a
# superblock in a partition, and what is read 64 KiB on.
CASES = [("ext4", 2), ("ext4", 4096), ("disk", 0), ("disk", 2048), ("disk", 4098), ("disk", 4224)]


@pytest.mark.parametrize(("kind", "sector"), CASES)
def test_a_source(lab: Lab, kind: str, sector: int) -> None:
    source, target = formatted(lab, "source.img", kind), lab.image("target.img", 64 * MIB)
    was = digest(target)
    with failing(lab, source, sector) as path, lab.attached(path) as device:
        run = lab.bsync(device, target, status=4)
    assert f"{device} cannot be read: Input/output error" in run.err
    assert digest(target) == was


def test_a_file(lab: Lab) -> None:
    """Even before it is surveyed: its format is looked for."""
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    with failing(lab, source, 0) as path:
        assert f"{path} cannot be read" in lab.bsync(path, target, status=4).err


@pytest.mark.parametrize(("kind", "sector"), [("ext4", 4096), ("disk", 2048)])
def test_a_destination(lab: Lab, kind: str, sector: int) -> None:
    source, target = formatted(lab, "source.img", kind), formatted(lab, "target.img", kind)
    was = digest(target)
    with failing(lab, target, sector) as path, lab.attached(path) as device:
        run = lab.bsync(source, device, "--yes", status=4)
    assert f"{device} cannot be read: Input/output error" in run.err
    assert digest(target) == was


def test_an_xfs_whose_record_of_free_space_cannot_be_read(lab: Lab) -> None:
    """Nothing is copied byte by byte up to where reading fails."""
    source, target = lab.image("source.img", 320 * MIB), lab.image("target.img", 320 * MIB)
    call("mkfs.xfs", "-q", source)
    with failing(lab, source, 80 * MIB // SECTOR + 1) as path, lab.attached(path) as device:
        run = lab.bsync(device, target, "--raw", status=4)
    assert "cannot be read" in run.err
