# SPDX-License-Identifier: GPL-2.0-only
"""How what is at a place relates to what is to be there: answered here, and nowhere else.  Pure."""

from __future__ import annotations

from enum import Enum

from bsync.filesystems import marker
from bsync.filesystems.kinds import kind_of
from bsync.model.layout import Blank, Content, Filesystem, Table, Unsupported, describe


class Relation(Enum):
    """What the destination's contents are to the source's."""

    BLANK = "blank"  # nothing
    STARTED = "started"  # a run began to make something, and nobody has used it since
    INCOMPLETE = "incomplete"  # an incomplete clone of this source
    CLONE = "clone"  # a clone of this source, made by its blocks or byte by byte
    CLONE_BY_FILES = "clone by files"
    OTHER = "other"  # somebody's


_OURS = frozenset({Relation.INCOMPLETE, Relation.CLONE, Relation.CLONE_BY_FILES})


def relation(source: Content, there: Content) -> Relation:
    """What `there` is to `source`, where that is copied in a way that knows its kind."""
    match source, there:
        case _, Blank(begun=begun):
            return Relation.STARTED if begun else Relation.BLANK
        case Filesystem(), Filesystem():
            return _filesystems(source, there)
    return Relation.OTHER


def is_clone(source: Content, there: Content) -> bool:
    """Whether `there` is a clone of `source`, finished or not."""
    return relation(source, there) in _OURS


def is_raw_clone(source: Content, there: Content) -> bool:
    """Whether `there` is a copy of `source` byte by byte, perhaps of an earlier state: of the same
    kind and id, or, where nothing has a name, with the same beginning."""
    unnamed = (Blank, Table)
    if isinstance(source, unnamed) or isinstance(there, unnamed):
        return False
    if describe(source) != describe(there):
        return False
    if isinstance(source, Unsupported) and isinstance(there, Unsupported) and source.unknown:
        return source.start == there.start != ""
    return source.uuid == there.uuid and identifies(source.uuid)


def identifies(uuid: str) -> bool:
    """Whether an id tells one thing from another: none, or one of zeroes alone, does not."""
    return bool(uuid.strip("0-"))


def _filesystems(source: Filesystem, there: Filesystem) -> Relation:
    if kind_of(source) is not kind_of(there):
        return Relation.OTHER
    if not identifies(source.uuid):
        return Relation.OTHER
    if marker.is_marked(there):
        ours = marker.is_incomplete_clone(there, source)
        return Relation.INCOMPLETE if ours else Relation.OTHER
    if source.uuid != there.uuid:
        return Relation.OTHER
    if began_as_blocks(source, there):
        return Relation.CLONE
    return Relation.CLONE_BY_FILES if there.kind == source.kind else Relation.OTHER


def began_as_blocks(source: Filesystem, there: Filesystem) -> bool:
    """Whether `there`, finished or not, began as a copy of the blocks of `source`."""
    blocks = kind_of(source).blocks
    if blocks is None or kind_of(there) is not kind_of(source):
        return False
    return blocks.is_clone(source, there)
