# SPDX-License-Identifier: GPL-2.0-only
"""The kinds of filesystems that bsync knows: the one list of them.  Pure."""

from __future__ import annotations

from typing import Any

from bsync.filesystems.ext.kind import EXT
from bsync.filesystems.fat.kind import FAT
from bsync.filesystems.kind import ByBlocks, ByFiles, Kind
from bsync.filesystems.reiserfs.kind import REISERFS
from bsync.filesystems.xfs.kind import XFS
from bsync.model.layout import Filesystem

KINDS: tuple[Kind[Any], ...] = (EXT, XFS, FAT, REISERFS)


def kind_of(content: Filesystem) -> Kind[Any]:
    """What answers for a filesystem like `content`."""
    found = kind_named(content.kind)
    if found is None:
        raise TypeError(f"no such kind of filesystem: {content.kind}")
    return found


def kind_named(name: str) -> Kind[Any] | None:
    """What answers for that which blkid calls `name`."""
    return next((kind for kind in KINDS if name in kind.names), None)


def by_files(content: Filesystem) -> ByFiles[Any]:
    """How the files of `content` are copied; what cannot be copied so never gets here."""
    found = kind_of(content).files
    if found is None:
        raise TypeError(f"{content.kind} is not copied by its files")
    return found


def by_blocks(content: Filesystem) -> ByBlocks[Any]:
    """How the blocks of `content` are copied; the same."""
    found = kind_of(content).blocks
    if found is None:
        raise TypeError(f"{content.kind} is not copied by its blocks")
    return found
