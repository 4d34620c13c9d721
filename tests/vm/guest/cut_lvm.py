# SPDX-License-Identifier: GPL-2.0-only
"""The power goes in the middle of a transaction: its volume is as it was, and what is left is
known by its tag."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lab import MIB, call
from rig import Rig
from small_disks import DISK_SIZE, disk
from volumes import activated, volume_group

OTHERS = {"theirs": (), "elsewhere": ("bsync.another-machine.20000101T000000-0",)}


def digest(device: str) -> str:
    with Path(device).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_before_merging(rig: Rig) -> None:
    """All is copied, in the snapshot; beside it others that look much like ours."""
    source, notes = disk(rig), rig.disk(2)
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("clone", f"{DISK_SIZE + 8 * MIB}b")
        call("mke2fs", "-q", "-t", "ext4", origin)
        for name, tags in OTHERS.items():
            words = [word for tag in tags for word in ("--addtag", tag)]
            call("lvcreate", "-q", "-q", "-y", "-s", "-L", "8M", "-n", name, *words, "vg0/clone")
        Path(notes).write_text(digest(origin))
        last = sum(". " in line for line in rig.bsync("plan", source, origin).out.splitlines())
        with rig.stopped("after-step", last, "--yes", source, "lvm+snapshot://vg0/clone"):
            assert len(group.volumes()) == 4, "the snapshot is there"
            call("sync")
            rig.cut_power()


def test_after_merging(rig: Rig) -> None:
    with Path(rig.inherited_disk(2)).open() as file:
        before = file.read(64)
    group = activated()
    try:
        (ours,) = set(group.volumes()) - {"clone", *OTHERS}
        assert digest(group.path("clone")) == before
        said = rig.bsync("recover").out
        assert ours in said
        assert set(group.volumes()) == {"clone", *OTHERS}
        assert digest(group.path("clone")) == before
        source = disk(rig)
        for name in OTHERS:  # their room is needed, and what they have to say is said
            call("lvremove", "-q", "-q", "-y", f"vg0/{name}")
        rig.bsync("--yes", source, "lvm+snapshot://vg0/clone")
        rig.assert_mirror(source, group.path("clone"))
    finally:
        call("vgchange", "-q", "-q", "--activate", "n", group.name)
