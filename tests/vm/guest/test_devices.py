# SPDX-License-Identifier: GPL-2.0-only
"""Disks and logical volumes by their paths, and everything that makes them somebody else's."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import MIB, call
from rig import Rig
from small_disks import disk
from volumes import volume_group


def sources(rig: Rig) -> str:
    """A virtual disk with two filesystems and swap, boot code and all."""
    device = rig.disk(0)
    rig.put(disk(rig), device)
    rig.reread(device)
    return device


def test_one_disk_is_cloned_to_another(rig: Rig) -> None:
    here, there = sources(rig), rig.disk(1)
    run = rig.bsync(here, there)
    assert "serial disk0" in run.out
    rig.assert_mirror(here, there)
    rig.reread(there)
    assert len(rig.nodes(there)) == 4
    rig.assert_clean_device(f"{there}5")
    with rig.mounted_device(f"{there}5") as tree:
        assert (tree / "deep/er/file").read_text() == "deep"


def test_a_disk_is_called_by_any_of_its_names(rig: Rig) -> None:
    sources(rig)
    name = "/dev/disk/by-id/virtio-disk"
    rig.disk(1)
    rig.bsync(f"{name}0", f"{name}1")
    rig.assert_mirror(f"{name}0", f"{name}1")
    rig.assert_refused(f"{name}0", rig.inherited_disk(0), saying="are the same storage")


def test_a_disk_with_a_mounted_partition_is_refused(rig: Rig) -> None:
    here, other = sources(rig), rig.disk(1)
    with rig.mounted_device(f"{here}5") as tree:
        story = f"{here} is in use: {here}5 is mounted on {tree}"
        rig.assert_refused(here, other, saying=story, status=8)
        rig.assert_refused("--yes", other, here, saying=story, status=8)
    rig.bsync(here, other)


def test_a_partition_is_cloned_by_its_node(rig: Rig) -> None:
    here, image = f"{sources(rig)}5", rig.image("one.img", 32 * MIB)
    rig.bsync(here, image)
    rig.assert_mirror(here, image)
    rig.assert_refused(rig.inherited_disk(0), here, saying="overlap")


def test_a_disk_that_is_swapped_to_is_refused(rig: Rig) -> None:
    here = sources(rig)
    call("swapon", f"{here}6")
    try:
        rig.assert_refused(here, rig.disk(1), saying=f"{here} is in use: ", status=8)
    finally:
        call("swapoff", f"{here}6")


def test_a_logical_volume_is_a_device(rig: Rig) -> None:
    with volume_group(rig.disk(0)) as group:
        volume = group.linear("data", "64M")
        call("mke2fs", "-q", "-t", "ext4", volume)
        image = rig.folder / "made.img"
        with rig.mounted_device(volume) as tree:
            (tree / "file").write_text("on a volume")
            rig.assert_refused(volume, image, "--create", "64M", saying="is mounted on", status=8)
            assert not image.exists()
        rig.bsync(volume, image, "--create", "64M")
        rig.assert_mirror(volume, image)
        copy = group.linear("copy", "64M")
        rig.bsync(image, copy)
        rig.assert_mirror(volume, copy)


def test_a_disk_below_active_volumes_is_refused(rig: Rig) -> None:
    disk_below, other = rig.disk(0), rig.disk(1)
    with volume_group(disk_below) as group:
        group.linear("data", "64M")
        rig.assert_refused(disk_below, other, saying=f"{disk_below} is in use: ", status=8)
        rig.assert_refused("--yes", other, disk_below, saying="is in use: ", status=8)
        rig.assert_refused(
            "--yes", rig.image("blank.img", MIB), disk_below, saying="is in use: ", status=8
        )


@pytest.mark.parametrize(
    ("owner", "hint"),
    [
        ("", "dmsetup remove held"),
        ("mpath-held", "multipath -f held"),
        ("part1-held", "kpartx -d"),
        ("CRYPT-PLAIN-held", "cryptsetup close held"),
    ],
)
def test_what_holds_a_disk_is_named(rig: Rig, owner: str, hint: str) -> None:
    """The kernel's maps stand in for their owners' tools, which know them by their UUIDs."""
    here, there = sources(rig), rig.disk(1)
    table = f"0 2048 linear {here} 0"
    call("dmsetup", "create", "held", *(["--uuid", owner] if owner else []), "--table", table)
    try:
        call("udevadm", "settle")
        run = rig.bsync(here, there, status=8)
        assert "/dev/mapper/held" in run.err
        assert hint in run.err
    finally:
        call("udevadm", "settle")
        call("dmsetup", "remove", "held")


def test_two_names_of_one_volume_are_one_device(rig: Rig) -> None:
    with volume_group(rig.disk(0)) as group:
        volume = group.linear("data", "64M")
        other = Path(f"/dev/mapper/{group.name}-data")
        call("mke2fs", "-q", volume)
        rig.assert_refused(volume, other, saying="are the same storage")
