# SPDX-License-Identifier: GPL-2.0-only
"""A kernel that scans tables: its partition nodes are neither used nor disturbed."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import MIB, call, wait_until
from rig import Rig

Place = tuple[int, int]
SIZE = 96 * MIB
# Logical partitions that leave gaps, so that no node is where one would guess it.
TABLE = """label: dos
label-id: 0x5af37e57
start=2048, size=32768, type=83, bootable
start=40960, size=147456, type=5
start=45056, size=49152, type=83
start=98304, size=8192, type=82
"""


def disk(rig: Rig) -> Path:
    """A disk whose filesystems were made through the kernel's nodes."""
    image = rig.image("source.img", SIZE)
    rig.table(image, TABLE)
    with rig.scanned(image) as device:
        for number in (1, 5):
            call("mke2fs", "-q", "-t", "ext4", "-L", f"part{number}", f"{device}p{number}")
            with rig.mounted_device(f"{device}p{number}") as tree:
                (tree / "file").write_text(f"on partition {number}")
        call("mkswap", f"{device}p6")
    return image


def assert_nodes_come(rig: Rig, device: str, wanted: dict[str, Place]) -> None:
    """udev looks at a disk that somebody has written to, as soon as it is let go of."""
    places = list(wanted.values())
    wait_until(lambda: list(rig.nodes(device).values()) == places, lambda: str(rig.nodes(device)))


def test_nodes_are_not_disturbed(rig: Rig) -> None:
    target = rig.image("target.img", SIZE)
    with rig.scanned(disk(rig)) as here, rig.scanned(target) as there:
        nodes = rig.nodes(here)
        assert sorted(nodes) == [f"{here}p{number}" for number in (1, 2, 5, 6)]
        with rig.stopped("after-step", 3, here, there):
            assert rig.nodes(there) == {}, "nobody is told of a table before its disk is done"
        assert rig.nodes(here) == nodes
        assert_nodes_come(rig, there, nodes)
        rig.assert_mirror(here, there)
    with rig.scanned(target) as there, rig.mounted_device(f"{there}p5") as tree:
        assert (tree / "file").read_text() == "on partition 5"


def test_the_nodes_of_a_mirror_show_what_was_synchronised(rig: Rig) -> None:
    source, target = disk(rig), rig.image("target.img", SIZE)
    with rig.scanned(source) as here:
        rig.bsync(here, target)
        with rig.mounted_device(f"{here}p5") as tree:
            (tree / "file").write_text("changed since")
        with rig.scanned(target) as there:
            nodes = rig.nodes(there)
            rig.bsync(here, there)
            assert rig.nodes(there) == nodes
            with rig.mounted_device(f"{there}p5") as tree:
                assert (tree / "file").read_text() == "changed since"


def test_nodes_that_lie_are_not_believed(rig: Rig) -> None:
    """The kernel's idea of a table is older than the table itself."""
    source, target = disk(rig), rig.image("target.img", SIZE)
    with rig.scanned(source) as here, rig.scanned(target) as there:
        truth = rig.nodes(here)
        for device in (here, there):
            call("partx", "--delete", device, ok=(0, 1))
            call("addpart", device, "5", "4096", "8192")
        lie = rig.nodes(here)
        rig.bsync(here, there)
        assert rig.nodes(here) == lie
        assert_nodes_come(rig, there, truth)
        rig.assert_mirror(here, there)


@pytest.mark.engine("files")
def test_nobody_mounts_a_partition_meanwhile(rig: Rig) -> None:
    target = rig.image("target.img", SIZE)
    with rig.scanned(disk(rig)) as here, rig.stopped("after-step", 2, here, target) as run:
        mounts = Path(f"/proc/{run.pid}/mounts").read_text()
        assert "/destination-" in mounts or "/source-" in mounts, mounts
        assert f"{here}p" not in mounts
        said = call("mount", f"{here}p5", "/mnt", ok=(32,))
        assert not said
    assert run.returncode == 0
