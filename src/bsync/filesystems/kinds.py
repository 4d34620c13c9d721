"""The kinds of filesystems that bsync synchronises: the one list of them.  Pure."""

from __future__ import annotations

from typing import Any

from bsync.filesystems.ext import kind as ext
from bsync.filesystems.kind import Kind
from bsync.filesystems.reiserfs import kind as reiserfs
from bsync.layout import Ext, Filesystem, Reiser

_KINDS: dict[type[Filesystem], Kind[Any]] = {Ext: ext, Reiser: reiserfs}


def kind_of(content: Filesystem) -> Kind[Any]:
    """What answers for a filesystem like `content`."""
    return _KINDS[type(content)]


def kind_named(name: str) -> Kind[Any] | None:
    """What answers for that which blkid calls `name`."""
    return next((kind for kind in _KINDS.values() if name in kind.NAMES), None)
