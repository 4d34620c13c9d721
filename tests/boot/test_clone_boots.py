# SPDX-License-Identifier: GPL-2.0-only
"""A real Debian system disk, cloned in every way there is, and booted from each clone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from debian_disk import DISK_SIZE, HOME, MARKER, MIB, ROOT, debian_disk
from lab import Lab, Part
from machine import boot, console

ALIVE = f"{MARKER} root={ROOT.uuid} home={HOME.uuid} swap=yes"


@pytest.fixture
def source(lab: Lab) -> Path:
    """A copy of the system disk, of the test's own."""
    path = lab.folder / "debian.img"
    subprocess.run(["cp", "--sparse=always", debian_disk(), path], check=True)
    path.chmod(0o600)
    return path


def filesystems(lab: Lab, image: Path) -> list[Part]:
    return [part for part in lab.partitions(image) if part.number in (ROOT.number, HOME.number)]


def assert_boots(lab: Lab, clone: Path) -> str:
    """The clone is clean, boots, and finds its root, its home and its swap by UUID."""
    for part in filesystems(lab, clone):
        lab.assert_clean(clone, part)
    text = boot(clone)
    assert ALIVE in text, text
    return text


def test_a_clone_on_a_larger_disk_boots(lab: Lab, source: Path) -> None:
    clone = lab.image("larger.img", DISK_SIZE + 300 * MIB)
    lab.bsync(source, clone)
    assert_boots(lab, clone)
    lab.bsync("verify", source, clone)


@pytest.mark.engine("files")
def test_a_clone_on_a_smaller_disk_boots_and_still_synchronises(lab: Lab, source: Path) -> None:
    clone = lab.image("smaller.img", DISK_SIZE - 150 * MIB)
    assert "partitions shrink" in lab.bsync(source, clone).out
    assert_boots(lab, clone)

    root = next(part for part in lab.partitions(source) if part.number == ROOT.number)
    with lab.mounted(source, root) as tree:
        (tree / "etc/boot-test").write_text("after the synchronisation\n")
    assert "1 file," in lab.bsync(source, clone).out.splitlines()[-1]
    assert "BOOT-TEST after the synchronisation" in assert_boots(lab, clone)
    lab.bsync("verify", source, clone)


def test_a_clone_into_a_compatible_table_boots(lab: Lab, source: Path) -> None:
    clone = lab.image("compatible.img", 2 * DISK_SIZE)
    script = f"""label: dos
label-id: 0xfeedbeef
start=4096, size=700M, type=83
start={800 * 2048}, size=300M, type=f
start={802 * 2048}, size=50M, type=82
start={900 * 2048}, size=90M, type=83
"""
    before = lab.table(clone, script)
    run = lab.bsync(source, clone)
    assert "note: table: the destination's table has room for every partition" in run.out
    assert lab.partitions(clone) == before
    with source.open("rb") as one, clone.open("rb") as other:
        assert one.read(446) == other.read(446)
    assert_boots(lab, clone)
    lab.bsync("verify", source, clone)


@pytest.mark.engine("files")
def test_an_incomplete_clone_does_not_boot_and_says_why(lab: Lab, source: Path) -> None:
    """The copy of /home fails, after that of the root has succeeded."""
    clone = lab.image("incomplete.img", DISK_SIZE)
    stubs = lab.folder / "bin"
    stubs.mkdir()
    once = (
        f'[ -e {stubs}/failed ] || {{ touch {stubs}/failed; exec {shutil.which("rsync")} "$@"; }}'
    )
    (stubs / "rsync").write_text(f"#!/bin/sh\n{once}\nexit 5\n")
    (stubs / "rsync").chmod(0o755)
    path = lab.environment["PATH"]
    lab.environment["PATH"] = f"{stubs}:{path}"
    lab.bsync(source, clone, status=5)
    assert "an incomplete clone" in console(clone, "an incomplete clone")

    lab.environment["PATH"] = path
    lab.bsync(source, clone)
    assert_boots(lab, clone)
