# SPDX-License-Identifier: GPL-2.0-only
"""How many names are sure to fit into a directory."""

from __future__ import annotations

import builders
import pytest

from bsync.filesystems.ext import by_files, htree

# Bytes of a block, length of the names, and how many of them rsync got in before ENOSPC.
MEASURED = ((1024, 40, 129_743), (1024, 100, 56_555), (1024, 245, 17_970), (2048, 245, 176_571))


@pytest.mark.parametrize(("block", "length", "most"), MEASURED)
def test_a_little_less_than_what_was_measured(block: int, length: int, most: int) -> None:
    sb = builders.superblock(block_size=block)
    assert most * 9 // 10 < htree.most_names(sb, [length] * 10) < most


def test_what_bounds_them() -> None:
    small = builders.ext(features=frozenset({"dir_index"}))
    assert by_files.most_names(small, [10]) is not None
    large = builders.ext(features=frozenset({"dir_index", "large_dir"}))
    assert by_files.most_names(large, [10]) is None
    assert by_files.most_names(builders.ext(features=frozenset()), [10]) is None
