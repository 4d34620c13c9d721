# SPDX-License-Identifier: GPL-2.0-only
"""What the inode tables tell, against what e2fsprogs tells of the same filesystem."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np
import pytest
from lab import Lab, call
from small_disks import bare

from bsync.filesystems.ext.inodes import scan
from bsync.filesystems.ext.superblock import parse
from bsync.model.arrays import Numbers

FOLDERS = 40


@pytest.mark.parametrize("kind", ["ext2", "ext3", "ext4"])
def test_blocks_that_a_walk_will_read(lab: Lab, kind: str) -> None:
    source = bare(lab, kind)
    with lab.mounted(source) as tree:
        for number in range(FOLDERS):
            (tree / f"folder-{number}").mkdir()
            for name in range(60):  # of more than a block
                (tree / f"folder-{number}" / f"{name:0100}").touch()
        (tree / "link").symlink_to("x" * 200)
        (tree / "file").write_bytes(os.urandom(200_000))
        os.setxattr(tree / "file", "user.long", b"y" * 400)
    met = walked(source)
    for number in range(FOLDERS):
        assert met >= blocks(source, f"/folder-{number}")
    assert met >= blocks(source, "/link")
    attributes = re.search(r"File ACL: (\d+)", call("debugfs", "-R", "stat /file", source))
    assert attributes
    assert int(attributes[1]) in met
    assert not met & blocks(source, "/file")


def walked(image: Path) -> set[int]:
    found: set[int] = set()

    def ahead(start: Numbers, length: Numbers) -> None:
        assert (np.diff(start) >= 0).all()
        for first, count in zip(start.tolist(), length.tolist(), strict=True):
            found.update(range(first, first + count))

    with image.open("rb") as file:

        def read(at: int, size: int) -> bytes:
            return os.pread(file.fileno(), size, at)

        scan(read, parse(read(1024, 1024)), ahead, 0)
    return found


def blocks(image: Path, path: str) -> set[int]:
    """The blocks that debugfs says a file has, but for those of its map."""
    found = {int(word) for word in call("debugfs", "-R", f"blocks {path}", image).split()}
    assert found
    return found
