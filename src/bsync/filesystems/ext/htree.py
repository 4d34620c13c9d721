# SPDX-License-Identifier: GPL-2.0-only
"""How many names fit into an indexed directory.  Pure.

Nodes of the index and leaves are halved when they are full, and all fill up alike, since names are
hashed: so the root is full of half-full nodes, and most of their room is never used.
Format: kernel documentation, filesystems/ext4/directory.rst, "Hash Tree Directories".
"""

from __future__ import annotations

from collections.abc import Sequence

from bsync.filesystems.ext.superblock import Superblock

_POINTER = 8  # bytes
_ROOT_HEAD, _NODE_HEAD, _TAIL = 32, 8, 8  # bytes
_NAME_HEAD, _LEAF_TAIL = 8, 12  # bytes
# Of the leaves' room, beside what rsync's temporary names need: measured, it is 0.74 to 0.83.
_FILLED = 0.73


def is_bounded(sb: Superblock) -> bool:
    """Whether the index has no more than two levels."""
    return "dir_index" in sb.features and "large_dir" not in sb.features


def vast(sb: Superblock) -> int:
    """Bytes of a directory from which on a copy of it may not fit."""
    return _leaves(sb) * sb.block_size // 2


def most_names(sb: Superblock, lengths: Sequence[int]) -> int:
    """How many names are sure to fit into a directory, if these are the lengths of some."""
    size = sum((_NAME_HEAD + length + 3) // 4 * 4 for length in lengths) / max(1, len(lengths))
    return int(_leaves(sb) * ((sb.block_size - _LEAF_TAIL) // max(1, size)) * _FILLED)


def _leaves(sb: Superblock) -> int:
    root = (sb.block_size - _ROOT_HEAD - _TAIL) // _POINTER
    node = (sb.block_size - _NAME_HEAD - _TAIL) // _POINTER
    return node << (root.bit_length() - 1)
