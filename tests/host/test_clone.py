# SPDX-License-Identifier: GPL-2.0-only
"""The main job on a disk with a DOS table."""

from __future__ import annotations

from lab import MIB, Lab
from trees import assert_same_tree


def test_bare_filesystem_is_cloned_and_synchronised(lab: Lab) -> None:
    source = lab.image("source.img", 64 * MIB)
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4", "-L", "data")
    with lab.mounted(source) as tree:
        (tree / "file").write_text("one")
    target = lab.image("target.img", 64 * MIB)

    first = lab.bsync(source, target)
    assert "done: 0 files" not in first.out
    lab.assert_clean(target)
    lab.bsync("verify", source, target)
    assert_same_tree(lab, source, target)
    assert "done: 0 files, 0 bytes transferred" in lab.bsync(source, target).out
