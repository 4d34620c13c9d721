# SPDX-License-Identifier: GPL-2.0-only
"""The tasks of docs/tutorial.md, as they are printed there, on disks of this test's own.

A volume group and a real boot are the guests' and the boot tier's: here an image stands in for the
volume, a loop device for each disk.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from shutil import copy

import pytest
from lab import MIB, Lab, Run, call
from loopback_target import serving
from small_disks import DISK_SIZE, disk

PAGE = Path(__file__).parents[2] / "docs" / "tutorial.md"
VOLUME = "lvm+snapshot://vg0/server"
LUN = "iscsi://nas.example/iqn.2004-10.org.example:server"


def commands(title: str) -> list[str]:
    """What is printed in a section, but for the jobs file."""
    section = PAGE.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^    (\S.*)$", section, re.MULTILINE)
    return [line for line in lines if line.split()[0] in ("bsync", "qemu-img")]


def carried_out(
    lab: Lab, title: str, names: Mapping[str, object], *more: str | Path
) -> list[Run]:  # fmt: skip
    """Every command of a section, with this test's names; how those of bsync ended."""
    runs = []
    for line in commands(title):
        for name, here in names.items():
            line = line.replace(name, str(here))
        program, *words = line.split()
        if program == "bsync":
            runs.append(lab.bsync(*words, *more))
        else:
            call(program, *words)
    assert runs, title
    return runs


@pytest.fixture(autouse=True)
def _here(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(lab.folder)


def test_a_server_to_a_lun_every_night(lab: Lab) -> None:
    source, lun = disk(lab), lab.image("lun", DISK_SIZE + 8 * MIB)
    title = "A server to a LUN, every night"
    block = re.search(r"(    \[job\.server\]\n(?:    .*\n)+)", PAGE.read_text())
    assert block
    with serving(lun) as target:
        jobs = lab.folder / "jobs.toml"
        names = {VOLUME: source, LUN: target.word, "jobs check": f"jobs check --file {jobs}",
                 "run server": f"run server --file {jobs}"}  # fmt: skip
        text = block[1]
        for name in (VOLUME, LUN):
            text = text.replace(name, str(names[name]))
        jobs.write_text(text)
        once, checked, nightly = carried_out(lab, title, names)
    assert "done: " in once.out
    assert "no mistakes" in checked.out
    assert "server: 0 files, 0 bytes transferred" in nightly.out
    lab.bsync("verify", source, lun)


def test_a_disk_to_a_larger_disk(lab: Lab) -> None:
    source, target = disk(lab), lab.image("larger.img", DISK_SIZE + 64 * MIB)
    with lab.attached(source) as one, lab.attached(target) as other:
        title = "A disk to a larger disk, and boot from it"
        *_, verified = carried_out(lab, title, {"/dev/sda": one, "/dev/sdb": other})
    assert "identical" in verified.out


def test_an_image_from_a_machine(lab: Lab) -> None:
    source = disk(lab)
    *_, seen = carried_out(lab, "An image from a running machine", {VOLUME: source, "20G": "300M"})
    assert "ext4" in seen.out
    lab.bsync("verify", source, "qcow2://server.qcow2")


def test_restore(lab: Lab) -> None:
    image = disk(lab)
    target = lab.image("target.img", DISK_SIZE)
    with lab.attached(target) as device:
        names = {"/backup/sdb.img": image, "/dev/sdb": device}
        *_, verified = carried_out(lab, "Restore", names)
    assert "identical" in verified.out


def test_a_virtual_machine_to_another_format(lab: Lab) -> None:
    raw = disk(lab)
    call("qemu-img", "convert", "-O", "qcow2", raw, "vm.qcow2")
    kept = copy("vm.qcow2", "kept.qcow2")
    *_, verified = carried_out(lab, "A virtual machine to another format", {"20G": "300M"})
    assert "identical" in verified.out
    assert Path("vm.qcow2").read_bytes() == Path(kept).read_bytes()
