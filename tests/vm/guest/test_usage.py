# SPDX-License-Identifier: GPL-2.0-only
"""The examples of the README, as they are printed there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import targets
from lab import MIB, Part, Run, call
from rig import Rig
from small_disks import DISK_SIZE, disk, filesystems
from targets import LioTarget, Lun, TgtTarget, served
from trees import assert_same_tree
from volumes import volume_group

OLD, NEW = "iqn.2004-10.org.example:server", "iqn.2025-01.org.example:server"
HOSTS = "127.0.0.1 storage.example old.example\n127.0.0.2 new.example\n"


def examples() -> dict[str, list[str]]:
    """The commands of the section, by the words above them."""
    section = Path("/src/README.md").read_text().partition("\n## Usage\n")[2].partition("\n## ")[0]
    found = re.findall(r"^(\S.*):\n\n((?:    .*\n)+)", section, re.MULTILINE)
    return {title: [line.strip() for line in lines.splitlines()] for title, lines in found}


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch, rig: Rig) -> Iterator[None]:
    """The machines of the examples are this one, and its folder is the rig's."""
    targets.start_initiator()
    hosts = Path("/etc/hosts")
    before = hosts.read_text() if hosts.exists() else ""
    hosts.write_text(before + HOSTS)
    monkeypatch.chdir(rig.folder)
    yield
    hosts.write_text(before)


def carried_out(rig: Rig, title: str) -> Run:
    """How bsync ended, the last of the commands; again, it had nothing to do."""
    *first, last = (line.split() for line in examples()[title])
    for command in first:
        call(*command)
    assert last[0] == "bsync"
    run = rig.bsync(*last[1:])
    assert "done: 0 files, 0 bytes transferred" in rig.bsync(*last[1:]).out, "a second run"
    left = rig.left()
    assert not left, f"left behind: {left}"
    return run


def old(image: Path) -> TgtTarget:
    return TgtTarget([Lun(image)], iqn=OLD)


def parts(rig: Rig, image: Path) -> list[Part]:
    return [part for part in filesystems(rig, image) if part]


def assert_mirrored(rig: Rig, source: Path, target: Path) -> None:
    """Both are filesystems of the same trees, and sound."""
    pairs = list(zip(parts(rig, source), parts(rig, target), strict=True))
    assert len(pairs) == 2
    for here, there in pairs:
        assert_same_tree(rig, source, target, here, there)
        rig.assert_clean(target, there)


def test_a_server_on_a_volume_to_a_lun(rig: Rig) -> None:
    """A whole Debian; the LUN is a disk that is booted in the end."""
    debian, lun = rig.inherited_disk(3), rig.disk(1)
    with volume_group(rig.disk(0)) as group:
        size = call("blockdev", "--getsize64", debian).strip()
        origin = group.linear("server", f"{size}b")
        call("dd", f"if={debian}", f"of={origin}", "bs=4M", "conv=sparse,fsync", "status=none")
        with served(old(Path(lun))):
            title = "A running server on a logical volume, to an iSCSI LUN"
            assert "snapshot of vg0/server" in carried_out(rig, title).out
            rig.bsync("verify", "lvm+snapshot://vg0/server", f"iscsi://storage.example/{OLD}")
        assert set(group.volumes()) == {"server"}
    call("blockdev", "--flushbufs", lun)
    for part in rig.partitions(Path(lun)):
        if part.type == "83":
            rig.assert_clean(Path(lun), part)
    rig.boots(1)


def test_that_lun_to_an_image_file(rig: Rig) -> None:
    lun = disk(rig)
    with served(old(lun)):
        carried_out(rig, "That LUN, to an image file")
    assert_mirrored(rig, lun, Path("server.img").absolute())


def test_one_lun_to_another(rig: Rig) -> None:
    one, other = disk(rig), rig.image("other.img", DISK_SIZE + 8 * MIB)
    new = LioTarget([Lun(other)], port=3260, address="127.0.0.2", iqn=NEW)
    with served(old(one)), served(new):
        carried_out(rig, "One LUN to another")
    assert_mirrored(rig, one, other)


def test_a_disk_to_an_image_file_every_night(rig: Rig) -> None:
    """With this machine's names in place of /dev/sdb and /backup."""
    source, folder = rig.disk(0), rig.folder / "backup"
    folder.mkdir()
    rig.put(disk(rig), source)
    names = {"/dev/sdb": source, "/backup/": f"{folder}/"}
    once, nightly = examples()["A disk to an image file, every night"]
    for line in (once, nightly):
        for name, here in names.items():
            line = line.replace(name, here)
        words = line.partition("#")[0].split()[1:]
        run = rig.bsync(*words)
    assert "done: 0 files, 0 bytes transferred" in run.out
    rig.bsync("verify", *words)
