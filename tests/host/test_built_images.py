# SPDX-License-Identifier: GPL-2.0-only
"""Images as image builders make them: the same names, sizes and times in every version."""

from __future__ import annotations

from pathlib import Path

from by_blocks import synchronised
from lab import MIB, Lab, call

NAMES = ("a", "b", "c")
TIME = "20240101120000"
UUID, SEED = "11111111-2222-4333-8444-555555555555", "66666666-2222-4333-8444-555555555555"


def version(lab: Lab, number: int) -> Path:
    """An image whose versions differ in the contents of one file alone."""
    tree, image = lab.folder / f"tree-{number}", lab.image(f"v{number}.img", 8 * MIB)
    tree.mkdir()
    for name in NAMES:
        (tree / name).write_text(f"{name} of version {number if name == 'b' else 0}")
    clock = ("env", "E2FSPROGS_FAKE_TIME=1704110400")
    how = ("-q", "-F", "-t", "ext4", "-U", UUID, "-E", f"hash_seed={SEED}", "-d", tree)
    call(*clock, "mke2fs", *how, image)
    times = [
        f"sif {name} {time} {TIME}" + (f"\nsif {name} {time}_extra 0" if time != "mtime" else "")
        for name in (*NAMES, "/", "lost+found")
        for time in ("atime", "ctime", "mtime", "crtime")
    ]
    times += [f"sif {name} mtime_extra 0" for name in (*NAMES, "/", "lost+found")]
    call(*clock, "debugfs", "-w", "-f", "/dev/stdin", image, given="\n".join(times))
    return image


def test_a_new_version_on_a_clone_of_the_old_one_that_was_in_use(lab: Lab) -> None:
    target = lab.image("target.img", 8 * MIB)
    lab.bsync(version(lab, 1), target)
    with lab.mounted(target) as tree:
        (tree / "written").write_text("here, and once")
    synchronised(lab, version(lab, 2), target)
    with lab.mounted(target, read_only=True, options="noload") as tree:
        assert (tree / "b").read_text() == "b of version 2"
        assert sorted(path.name for path in tree.iterdir()) == [*NAMES, "lost+found"]
