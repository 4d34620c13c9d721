# SPDX-License-Identifier: GPL-2.0-only
"""Volumes in several pieces, and merges whose lvconvert is gone."""

from __future__ import annotations

from shutil import which

from lab import MIB, call
from rig import Rig
from volumes import volume_group

EXT4 = ("mke2fs", "-q", "-t", "ext4", "-E", "lazy_itable_init=0,lazy_journal_init=0")
LOCATOR = "lvm+snapshot://vg0/data"


def test_a_volume_of_two_segments(rig: Rig) -> None:
    image = rig.image("clone.img", 64 * MIB)
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("data", "32M")
        group.linear("between", "32M")
        call("lvextend", "--quiet", "-L", "64M", "vg0/data")
        call(*EXT4, origin)
        rig.bsync(LOCATOR, image)
        rig.bsync(image, LOCATOR)
        assert set(group.volumes()) == {"data", "between"}


def test_a_merge_that_lost_its_lvconvert(rig: Rig) -> None:
    """What is killed is the program; the kernel goes on merging, and nobody sees it to its end."""
    image = rig.image("source.img", 64 * MIB)
    call(*EXT4, image)
    rig.stand_in(
        "lvconvert",
        f"""for name; do :; done
{which("lvconvert")} --merge --interval 1000 --yes $name &
until dmsetup table | grep -q snapshot-merge; do sleep 0.2; done
kill -KILL $! $$""",
    )
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("data", "64M")
        call(*EXT4, origin)
        rig.bsync(image, LOCATOR, "--yes")
        names = call("lvs", "--all", "--noheadings", "-o", "lv_name", "vg0").split()
        assert names == ["data"]
        rig.bsync("verify", image, origin)


def test_a_merge_whose_lvconvert_was_ended_before_it_began(rig: Rig) -> None:
    """It is begun again, once."""
    image, ended = rig.image("source.img", 64 * MIB), rig.folder / "ended"
    call(*EXT4, image)
    rig.stand_in("lvconvert", f"[ -e {ended} ] || {{ touch {ended}; kill -KILL $$; }}")
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("data", "64M")
        rig.bsync(image, LOCATOR)
        assert ended.exists()
        assert set(group.volumes()) == {"data"}
        rig.bsync("verify", image, origin)
