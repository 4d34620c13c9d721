"""Whether a filesystem goes by its blocks, and the steps of it.  Pure."""

from __future__ import annotations

from bsync.errors import Refused
from bsync.filesystems import mark
from bsync.filesystems.ext import blockwise, growth
from bsync.filesystems.ext import kind as ext
from bsync.layout import Blank, Content, Ext, describe
from bsync.plan.relation import began_as_blocks, is_clone
from bsync.plan.steps import CompleteBlocks, CopyBlocks, MarkBlocks, Options, Place, Step, Way


def obstacle(place: Place, source: Ext, there: Content, options: Options) -> str:
    """Why the blocks engine does not apply; empty where it does."""
    sb, size = source.superblock, place.destination.size
    if reason := blockwise.obstacle(sb):
        return reason
    if size < sb.size:
        return "the destination is smaller than the filesystem"
    if options.grow and (reason := blockwise.growth_obstacle(sb, size)):
        return reason
    if is_clone(source, there) and not _by_blocks(source, there) and options.engine == "auto":
        return "the clone was made by files"
    return ""


def steps(place: Place, source: Ext, there: Content, options: Options) -> tuple[Step, ...]:
    """Mark it, copy, complete.  Raises `Refused`."""
    if hindrance := ext.unsettled(source):
        raise Refused(f"{place.at_source}{hindrance.text}", hindrance.hint)
    sb = source.superblock
    way, reason = _way(source, there, options)
    blocks = growth.grown(sb, place.destination.size) if options.grow else 0
    grow = blocks if blocks > sb.blocks else 0
    smaller = isinstance(there, Ext) and there.superblock.blocks < grow
    return (
        MarkBlocks(place, source, way, _present(source, there), always=smaller),
        CopyBlocks(place, source, way, reason, source.used),
        CompleteBlocks(place, source, grow, f"UUID {source.uuid}"),
    )


def _present(source: Ext, there: Content) -> str:
    match there:
        case Blank(begun=begun):
            return f"the destination {'was being made' if begun else 'has no known contents'}"
        case Ext() if is_clone(source, there):
            kind = "an incomplete clone" if mark.is_marked(there) else "a clone"
            return f"the destination is {kind} of this source"
    return f"the destination holds {describe(there)}, not a clone of this filesystem"


def _way(source: Ext, there: Content, options: Options) -> tuple[Way, str]:
    if not isinstance(there, Ext) or not is_clone(source, there):
        return Way.FRESH, "every block in use"
    if mark.is_marked(there):
        return Way.COMPARE, "what differs, since the last run was interrupted"
    if not there.clean:
        return Way.COMPARE, "what differs, since the last run was interrupted"
    if not began_as_blocks(source, there):
        return Way.COMPARE, "what differs, since the clone was made by files"
    if options.checksum:
        return Way.COMPARE, "what differs, by contents"
    return Way.CHANGES, "only what changed"


def _by_blocks(source: Ext, there: Content) -> bool:
    return isinstance(there, Ext) and began_as_blocks(source, there)
