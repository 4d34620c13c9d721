# SPDX-License-Identifier: GPL-2.0-only
"""Filesystems that the kernel of this machine has and the host may not: cloned, and mounted."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import MIB, Part
from rig import Rig

# About the least that each can be made in.
MAKE = {
    "xfs": (320 * MIB, ("mkfs.xfs", "-q", "-f")),
    "vfat": (48 * MIB, ("mkfs.vfat",)),
    "btrfs": (128 * MIB, ("mkfs.btrfs", "-q", "-f")),
}
KINDS = pytest.mark.parametrize("kind", MAKE)


def made(rig: Rig, kind: str, *, bare: bool) -> tuple[Path, Part | None]:
    """An image of such a filesystem with a file, bare or as a partition."""
    size, command = MAKE[kind]
    image = rig.image("source.img", size + (0 if bare else 2 * MIB))
    script = f"label: dos\nstart=2048, size={size // 512}, type=83\n"
    part = None if bare else rig.table(image, script)[0]
    rig.make(image, part, *command)
    with rig.mounted(image, part, options="") as tree:
        (tree / "file").write_text(f"on {kind}")
    return image, part


@pytest.mark.parametrize("bare", [True, False], ids=["bare", "partition"])
def test_btrfs_is_refused_by_name(rig: Rig, bare: bool) -> None:
    image, _ = made(rig, "btrfs", bare=bare)
    target = rig.image("target.img", image.stat().st_size)
    place = "whole device" if bare else "partition 1"
    rig.assert_refused(image, target, saying=f"source ({place}): unsupported contents: btrfs")
    assert not any(target.read_bytes()[:MIB])


@KINDS
def test_its_clone_can_be_mounted(rig: Rig, kind: str) -> None:
    image, part = made(rig, kind, bare=False)
    target = rig.image("target.img", image.stat().st_size)
    raw = ["--raw"] if kind == "btrfs" else []
    rig.bsync(*raw, image, target)
    with rig.mounted(target, part, read_only=True) as tree:
        assert (tree / "file").read_text() == f"on {kind}"
    rig.bsync("verify", image, target)
    assert "0 bytes transferred" in rig.bsync(*raw, image, target).out
