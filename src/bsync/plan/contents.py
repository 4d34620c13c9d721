# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of one partition's contents.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bsync.errors import Refused
from bsync.filesystems import marker
from bsync.filesystems.kinds import by_files, kind_of
from bsync.model.layout import Blank, Content, Filesystem, Problem, Swap, Unsupported, describe
from bsync.plan import blocks
from bsync.plan.notes import behind_notes, raw_notes
from bsync.plan.relation import Relation, identifies, is_clone, is_raw_clone, relation
from bsync.plan.steps import (
    CompleteFilesystem,
    CopyFiles,
    CopyRaw,
    GrowExt,
    MakeFilesystem,
    MakeSwap,
    MarkFilesystem,
    Options,
    Place,
    Step,
)
from bsync.units import both_sizes, size_text

# What may be a stale signature, or damaged: not to be copied without a look.
_DOUBTFUL = frozenset(
    (
        Problem.DAMAGED, Problem.CUT_SHORT, Problem.AMBIGUOUS, Problem.TABLE_TOO,
        Problem.TABLE_DAMAGED, Problem.TABLE_MISSING,
    )
)  # fmt: skip
_SMALLEST_SWAP = 10  # pages; mkswap(8) refuses less


_CLOCKS = 24 * 3600  # seconds by which the clocks of the source's machine and ours may differ


@dataclass(frozen=True)
class Steps:
    """Steps for one place, with what they destroy and what is to be said."""

    steps: tuple[Step, ...] = ()
    destroys: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def content_steps(place: Place, source: Content, there: Content, options: Options) -> Steps:
    """The steps that bring `source` to `place`, where `there` is now.  Raises `Refused`."""
    if options.engine == "raw":
        return _raw(place, source, there)
    match source:
        case Filesystem():
            found = _filesystem(place, source, there, options)
            more = (*behind_notes(place, source), *_no_uuid_note(place, source))
            return replace(found, notes=(*found.notes, *more))
        case Swap():
            return _swap(place, source, there)
        case _:
            if not options.raw:
                raise _unknown(place, source)
            return _raw(place, source, there)


def _unknown(place: Place, content: Content) -> Refused:
    what, hint = f"unsupported contents: {describe(content)}", "use --raw to copy them byte by byte"
    if isinstance(content, Blank) or (isinstance(content, Unsupported) and content.unknown):
        what = "no known contents"
    elif isinstance(content, Unsupported) and content.problem in _DOUBTFUL:
        hint = "wipefs shows the signatures there; --raw copies it byte by byte, as it is"
    elif isinstance(content, Unsupported) and content.problem is Problem.OTHER_SECTORS:
        size = content.details[0]
        hint = f"losetup --find --show --sector-size {size} FILE makes a device of it: name that"
    return Refused(f"{place.at_source}: {what}", hint)


def _lost(place: Place, there: Content) -> tuple[str, ...]:
    """What is destroyed at `place`; swapped-out pages are nobody's loss."""
    if isinstance(there, Blank) or (isinstance(there, Swap) and not there.hibernated):
        return ()
    size = size_text(place.destination.size)
    return (f"{place.at_destination}: {describe(there)}, {size}",)


# --- contents of any kind -----------------------------------------------------------------


def _raw(place: Place, source: Content, there: Content) -> Steps:
    if place.destination.size < place.source.size:
        need, have = both_sizes(place.source.size, place.destination.size)
        raise Refused(f"{place.name}: a raw copy needs {need}, the destination has {have}")
    if place.destination.size > place.source.size and getattr(source, "at_end", False):
        need, have = both_sizes(place.source.size, place.destination.size)
        raise Refused(
            f"{place.name}: {describe(source)} ends with its superblock, so its place must have "
            f"the same size, {need}; the destination has {have}"
        )
    clone = is_raw_clone(source, there)
    lost = () if clone else _lost(place, there)
    return Steps((_copy_raw(place, source, there, clone),), lost, raw_notes(place, source))


def _copy_raw(place: Place, source: Content, there: Content, clone: bool) -> CopyRaw:
    why = source.unmapped if isinstance(source, Filesystem) else ""
    fresh = not clone and not (isinstance(source, Blank) and isinstance(there, Blank))
    reason = f"all bytes{why and f', since {why}'}"
    return CopyRaw(place, describe(source), reason, place.source.size, fresh=fresh)


# --- swap ---------------------------------------------------------------------------------


def _swap(place: Place, source: Swap, there: Content) -> Steps:
    if source.hibernated:
        raise Refused(
            f"{place.at_source} contains a hibernation image (system suspended to disk)",
            "resume it, then shut it down",
        )
    if place.destination.size < _SMALLEST_SWAP * source.page_size:
        raise Refused(f"{place.name}: {place.destination.size} bytes are too few for swap")
    if there == source:  # with no UUID, too: made anew, it would be just that
        return Steps(notes=(f"{place.name}: swap already has the right UUID and label",))
    return Steps((MakeSwap(place, source, "swap is never copied"),), _lost(place, there))


# --- filesystems --------------------------------------------------------------------------


def _filesystem(place: Place, source: Filesystem, there: Content, options: Options) -> Steps:
    if marker.is_marked(source):
        raise Refused(f"{place.at_source} is itself an incomplete clone", "complete it first")
    instead = "" if options.engine == "files" else blocks.obstacle(place, source, there, options)
    if options.engine != "files" and not instead:
        return _by_blocks(place, source, there, options)
    if not _has_readable_files(source, options):
        return _without_files(place, source, there, options, instead)
    if options.engine == "blocks":
        raise Refused(f"{place.name} cannot be cloned by blocks: {instead}", "leave out --engine")
    unexpected = instead and kind_of(source).blocks is not None
    return _by_files(
        place, source, there, options, f"; not by blocks: {instead}" if unexpected else ""
    )


def _has_readable_files(source: Filesystem, options: Options) -> bool:
    """Whether a copy of its files is to be thought of: of what is copied byte by byte otherwise,
    only where nothing speaks against it."""
    kind = kind_of(source)
    if kind.files is None or kind.mapped is None or options.engine == "files":
        return kind.files is not None
    return kind.files.obstacle(source) is None


def _without_files(
    place: Place, source: Filesystem, there: Content, options: Options, instead: str
) -> Steps:
    """What cannot be made anew goes byte by byte, if that is wanted."""
    if options.raw:
        return _raw(place, source, there)
    if options.engine == "files":
        raise Refused(
            f"{place.name}: {source.kind} is cloned by its blocks only", "leave out --engine"
        )
    raise Refused(
        f"{place.at_source}: {describe(source)} cannot be cloned by its blocks in use: {instead}",
        "use --raw to copy it byte by byte",
    )


def _no_uuid_note(place: Place, source: Filesystem) -> tuple[str, ...]:
    if identifies(source.uuid):
        return ()
    why = "has no UUID to recognise a clone by, so it is cloned from scratch"
    return (f"{place.name}: the source's {source.kind} {why}",)


def _by_blocks(place: Place, source: Filesystem, there: Content, options: Options) -> Steps:
    steps = blocks.steps(place, source, there, options)
    notes = blocks.notes(place, source)
    if not is_clone(source, there):
        return Steps(steps, _lost(place, there), notes)
    complete = isinstance(there, Filesystem) and not marker.is_marked(there)
    return Steps(steps, _emptied(place, source, there) if complete else (), notes)


def _by_files(
    place: Place, source: Filesystem, there: Content, options: Options, instead: str
) -> Steps:
    _check_source(place, source)
    notes = _boot_block_note(place, source)
    if isinstance(there, Filesystem) and _can_be_updated(source, there):
        return _synchronise(place, source, there, notes, options.checksum, instead)
    size = place.destination.size
    if not by_files(source).fits(source, size):
        raise _too_small(place, source, size)
    reason = f"the destination holds {describe(there)}, not a clone of this filesystem"
    if isinstance(there, Blank):
        reason = f"the destination {'was being made' if there.begun else 'has no known contents'}"
    steps = (
        MakeFilesystem(place, source, reason),
        CopyFiles(place, source, fresh=True, reason=f"everything{instead}", cost=source.used),
        CompleteFilesystem(place, source, f"UUID {source.uuid}"),
    )
    ours = relation(source, there) is Relation.INCOMPLETE
    return Steps(steps, () if ours else _lost(place, there), notes)


def _can_be_updated(source: Filesystem, there: Filesystem) -> bool:
    same_kind = there.kind == source.kind or marker.is_marked(there)
    return is_clone(source, there) and same_kind and by_files(source).writable(there)


def _too_small(place: Place, source: Filesystem, size: int) -> Refused:
    need, have = both_sizes(by_files(source).needed(source, size), size)
    return Refused(f"{place.name}: the files need {need}, the destination has {have}")


def _check_source(place: Place, source: Filesystem) -> None:
    """Raise `Refused` if a copy of the files would not be a clone."""
    if obstacle := by_files(source).obstacle(source):
        raise Refused(f"{place.at_source}{obstacle.text}", obstacle.hint)


def _boot_block_note(place: Place, source: Filesystem) -> tuple[str, ...]:
    if not source.boot_block:
        return ()
    note = f"{place.name}: a boot loader in its boot block (extlinux, LILO) is not copied, since it"
    return (f"{note} refers to blocks by number: install it anew on the clone",)


def _synchronise(
    place: Place, source: Filesystem, there: Filesystem, notes: tuple[str, ...], checksum: bool,
    instead: str,
) -> Steps:  # fmt: skip
    grow = _growth(place, source, there)
    marked = marker.is_marked(there)
    reason = "an incomplete clone of this source" if marked else "a clone of this source"
    copied = f"only what changed{instead}"
    if not there.clean:  # after a power cut, sizes and times may be right and data missing
        copied, checksum = "what differs by contents, since the last run was interrupted", True
    steps: tuple[Step, ...] = (
        MarkFilesystem(place, source, there, f"the destination is {reason}"),
        *grow,
        CopyFiles(
            place,
            source,
            fresh=False,
            reason=copied,
            cost=source.used,
            checksum=checksum,
            since=_since(there),
        ),
        CompleteFilesystem(place, source, f"UUID {source.uuid}"),
    )
    emptied = () if marked else _emptied(place, source, there)
    return Steps(steps, emptied, (*notes, *_unlike(place, source, there)))


def _since(there: Filesystem) -> int | None:
    """From when on what the source changed may not be what the clone got."""
    completed = by_files(there).completed(there)
    return None if completed is None else completed - _CLOCKS


def _growth(place: Place, source: Filesystem, there: Filesystem) -> tuple[GrowExt, ...]:
    """The step that makes room for a source that outgrew its clone.  Raises `Refused` where
    there is not enough."""
    files, size = by_files(source), place.destination.size
    if files.fits_into(source, there):
        return ()
    if blocks := files.grown(source, there, size):
        reason = "the source outgrew it, and its partition has room"
        return (GrowExt(place, blocks, blocks * there.superblock.block_size, reason),)
    need, have = files.shortage(source, there)
    hint = "wipe it (wipefs -a) and run again to recreate it" if files.fits(source, size) else ""
    raise Refused(f"{place.name}: the files need {need}, the destination has {have}", hint)


def _emptied(place: Place, source: Filesystem, there: Content) -> tuple[str, ...]:
    """A source that lost most of its files does not empty the clone unasked."""
    return _gone(place, kind_of(source).emptied(source, there))


def _gone(place: Place, lost: str) -> tuple[str, ...]:
    return (f"{place.name}: deletes {lost} (gone from the source)",) if lost else ()


def _unlike(place: Place, source: Filesystem, there: Filesystem) -> tuple[str, ...]:
    differ = by_files(source).unlike(source, there)
    return (f"{place.name}: differs from the source in {differ}; left unchanged",) if differ else ()
