# SPDX-License-Identifier: GPL-2.0-only
"""Whether a filesystem goes by its blocks, and the steps of it.  Pure."""

from __future__ import annotations

from bsync.errors import Refused
from bsync.filesystems import marker
from bsync.filesystems.kinds import by_blocks, kind_of
from bsync.model.layout import Blank, Content, Filesystem, describe
from bsync.plan.relation import began_as_blocks, is_clone
from bsync.plan.steps import CompleteBlocks, CopyBlocks, MarkBlocks, Options, Place, Step, Way

_MOVED = "what lies beyond its new end is moved: install a boot loader such as syslinux anew"


def obstacle(place: Place, source: Filesystem, there: Content, options: Options) -> str:
    """Why the blocks engine does not apply; empty where it does."""
    ability = kind_of(source).blocks
    if ability is None:
        return f"nothing is known of the blocks of {describe(source)}"
    if source.unmapped:
        return source.unmapped
    if reason := ability.obstacle(source, place.destination.size, grow=options.grow):
        return reason
    if is_clone(source, there) and not _by_blocks(source, there) and options.engine == "auto":
        return "the clone was made by files"
    return ""


def steps(place: Place, source: Filesystem, there: Content, options: Options) -> tuple[Step, ...]:
    """Mark it, copy, complete.  Raises `Refused`."""
    if hindrance := kind_of(source).unsettled(source):
        raise Refused(f"{place.at_source}{hindrance.text}", hindrance.hint)
    size = source.superblock.block_size
    way, reason = _way(source, there, options)
    blocks = by_blocks(source).grown(source, place.destination.size) if options.grow else 0
    grow = blocks if blocks * size > source.size else 0
    smaller = isinstance(there, Filesystem) and there.size < grow * size
    return (
        MarkBlocks(place, source, way, _present(source, there), always=smaller),
        CopyBlocks(place, source, way, reason, source.used),
        CompleteBlocks(place, source, grow, f"UUID {source.uuid}"),
    )


def notes(place: Place, source: Filesystem) -> tuple[str, ...]:
    """What is to be said of the clone."""
    here, there = (
        extent.start if place.number else None for extent in (place.source, place.destination)
    )
    found = by_blocks(source).notes(source, here, there)
    if place.destination.size < source.size:
        found += (_MOVED,)
    return tuple(f"{place.name}: {text}" for text in found)


def _present(source: Filesystem, there: Content) -> str:
    match there:
        case Blank(begun=begun):
            return f"the destination {'was being made' if begun else 'has no known contents'}"
        case Filesystem() if is_clone(source, there):
            kind = "an incomplete clone" if marker.is_marked(there) else "a clone"
            return f"the destination is {kind} of this source"
    return f"the destination holds {describe(there)}, not a clone of this filesystem"


def _way(source: Filesystem, there: Content, options: Options) -> tuple[Way, str]:
    searches = by_blocks(source).SEARCHES
    if isinstance(there, Blank) and there.begun and not searches:
        return Way.RESUME, "every block in use that is not there yet"
    if not isinstance(there, Filesystem) or not is_clone(source, there):
        return Way.FRESH, "every block in use"
    if not searches:
        return Way.COMPARE, "what differs, by contents"
    if marker.is_marked(there):
        return Way.COMPARE, "what differs, since the last run was interrupted"
    if not there.clean:
        return Way.COMPARE, "what differs, since the last run was interrupted"
    if not began_as_blocks(source, there):
        return Way.COMPARE, "what differs, since the clone was made by files"
    if options.checksum:
        return Way.COMPARE, "what differs, by contents"
    return Way.CHANGES, "only what changed"


def _by_blocks(source: Filesystem, there: Content) -> bool:
    return isinstance(there, Filesystem) and began_as_blocks(source, there)
