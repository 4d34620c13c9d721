"""What becomes of one partition's contents.  Pure."""

from __future__ import annotations

from dataclasses import dataclass

from bsync.errors import Refused
from bsync.filesystems.ext import make, mark
from bsync.layout import Blank, Content, Ext, Foreign, Swap, describe
from bsync.plan.steps import (
    CompleteExt,
    CopyFiles,
    CopyRaw,
    GrowExt,
    MakeExt,
    MakeSwap,
    MarkExt,
    Options,
    Place,
    Step,
)
from bsync.units import both_sizes, count_text, size_text

_SMALLEST_SWAP = 10 * 4096  # bytes; mkswap(8) refuses less


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
        case Ext():
            return _ext(place, source, there, options)
        case Swap():
            return _swap(place, source, there)
        case Foreign() | Blank():
            if not options.raw:
                raise _unknown(place, source)
            return _raw(place, source, there)


def _unknown(place: Place, content: Content) -> Refused:
    what = "no known contents" if describe(content) in ("nothing", "unknown data") else (
        f"{describe(content)}, which bsync does not synchronise"
    )  # fmt: skip
    return Refused(f"{place.name} of the source holds {what}", "--raw copies such contents as is")


def _lost(place: Place, there: Content) -> tuple[str, ...]:
    """What is destroyed at `place`; swapped-out pages are nobody's loss."""
    if isinstance(there, Blank) or (isinstance(there, Swap) and not there.hibernated):
        return ()
    size = size_text(place.destination.size)
    return (f"{place.name} of the destination: {describe(there)}, {size}",)


# --- contents of any kind -----------------------------------------------------------------


def _raw(place: Place, source: Content, there: Content) -> Steps:
    if place.destination.size < place.source.size:
        need, have = both_sizes(place.source.size, place.destination.size)
        raise Refused(f"{place.name}: a raw copy needs {need}, the destination has {have}")
    what = describe(source)
    return Steps(
        (CopyRaw(place, what, "copied byte by byte", place.source.size),),
        () if _is_raw_mirror(source, there) else _lost(place, there),
    )


def _is_raw_mirror(source: Content, there: Content) -> bool:
    """The same kind, and known to be the same by its UUID or by how it begins."""
    if isinstance(source, Blank) or isinstance(there, Blank) or describe(source) != describe(there):
        return False
    if isinstance(source, Foreign) and isinstance(there, Foreign) and source.start:
        return source.uuid == there.uuid and (bool(source.uuid) or source.start == there.start)
    return source.uuid == there.uuid != ""


# --- swap ---------------------------------------------------------------------------------


def _swap(place: Place, source: Swap, there: Content) -> Steps:
    if source.hibernated:
        raise Refused(
            f"{place.name} of the source holds a hibernation image: its system only sleeps",
            "wake it up and shut it down first",
        )
    if place.destination.size < _SMALLEST_SWAP:
        raise Refused(f"{place.name}: {place.destination.size} bytes are too few for swap")
    if there == source:
        return Steps(notes=(f"{place.name}: swap with this UUID and label is there already",))
    return Steps((MakeSwap(place, source, "swap is made anew, never copied"),), _lost(place, there))


# --- ext2, ext3, ext4 ---------------------------------------------------------------------


def _ext(place: Place, source: Ext, there: Content, options: Options) -> Steps:
    _check_source(place, source)
    notes = _boot_block_note(place, source)
    if isinstance(there, Ext) and _is_mirror(source, there):
        return _synchronise(place, source, there, notes, options.checksum)
    sb, size = source.superblock, place.destination.size
    if not make.fits(sb, size):
        need, have = both_sizes(make.needed(sb, size), size)
        raise Refused(f"{place.name}: the files need {need}, the destination has {have}")
    reason = f"the destination holds {describe(there)}, not a mirror of this filesystem"
    if isinstance(there, Blank):
        reason = f"the destination {'was being made' if there.begun else 'is blank'}"
    steps = (
        MakeExt(place, source, make.shape(sb, size), reason),
        CopyFiles(place, source, fresh=True, reason="everything", cost=sb.used),
        CompleteExt(place, source, "UUID and label of the source"),
    )
    return Steps(steps, _lost(place, there), notes)


def _is_mirror(source: Ext, there: Ext) -> bool:
    if make.unmakeable(there.superblock):  # nothing here could write to it
        return False
    if mark.is_marked(there.superblock):
        return mark.is_unfinished_mirror(there.superblock, source.superblock)
    return there.kind == source.kind and there.uuid == source.uuid


def _check_source(place: Place, source: Ext) -> None:
    """Raise `Refused` if a copy of the files would not be a mirror."""
    sb, name = source.superblock, f"{place.name} of the source"
    if mark.is_marked(sb):
        raise Refused(f"{name} is itself an incomplete clone", "complete it first")
    if "needs_recovery" in sb.features:
        raise Refused(
            f"{name}: the journal of its {source.kind} needs recovery, so its files are stale",
            "mount and unmount it once, or run e2fsck -p; bsync does not write to a source",
        )
    if not sb.clean:
        raise Refused(f"{name}: its {source.kind} needs a check", "run e2fsck -p on it")
    if "has_journal" in sb.features and not sb.journal_inode:
        raise Refused(f"{name}: its journal is on another device", _RAW)
    if unmakeable := make.unmakeable(sb):
        features = ", ".join(sorted(unmakeable))
        raise Refused(f"{name} has features that a copy of its files would lose: {features}", _RAW)


_RAW = "--engine raw copies the partition byte by byte"


def _boot_block_note(place: Place, source: Ext) -> tuple[str, ...]:
    if not source.boot_block:
        return ()
    note = f"{place.name}: a boot loader in its boot block (extlinux, LILO) is not copied, since it"
    return (f"{note} refers to blocks by number: install it anew on the clone",)


def _synchronise(
    place: Place, source: Ext, there: Ext, notes: tuple[str, ...], checksum: bool
) -> Steps:
    sb, present = source.superblock, there.superblock
    grow = _growth(place, source, there)
    marked = mark.is_marked(present)
    reason = "an unfinished mirror of this source" if marked else "a mirror of this source"
    copied = "only what changed"
    if not present.clean:  # after a power cut, sizes and times may be right and data missing
        copied, checksum = "what differs by contents, since the mirror was cut off", True
    steps: tuple[Step, ...] = (
        MarkExt(place, source, there, f"the destination is {reason}"),
        *grow,
        CopyFiles(place, source, fresh=False, reason=copied, cost=sb.used, checksum=checksum),
        CompleteExt(place, source, "UUID and label of the source"),
    )
    emptied = () if marked else _emptied(place, source, there)
    return Steps(steps, emptied, (*notes, *_other_features(place, source, there)))


def _growth(place: Place, source: Ext, there: Ext) -> tuple[GrowExt, ...]:
    """The step that makes room for a source that outgrew its mirror.  Raises `Refused` where
    there is not enough."""
    sb, present = source.superblock, there.superblock
    if make.fits(sb, present.size) and sb.used_inodes <= present.inodes:
        return ()
    size = place.destination.size
    blocks = make.grown(sb, present, size)
    if blocks:
        reason = "the source outgrew it, and its partition has room"
        return (GrowExt(place, blocks, blocks * present.block_size, reason),)
    need, have = both_sizes(make.needed(sb, present.size), present.size)
    hint = "wipefs -a on it lets it be made anew" if make.fits(sb, size) else ""
    if sb.used_inodes > present.inodes:
        need, have = f"{sb.used_inodes:,} inodes", f"{present.inodes:,}"
    raise Refused(f"{place.name}: the files need {need}, the destination has {have}", hint)


def _emptied(place: Place, source: Ext, there: Ext) -> tuple[str, ...]:
    """A source that lost most of its files does not empty the mirror unasked."""
    files, present = source.superblock.used_inodes, there.superblock.used_inodes
    if present < 100 or files * 2 >= present:
        return ()
    lost = count_text(present - files, "file")
    return (f"{place.name}: about {lost} of {present:,}, which the source no longer has",)


def _other_features(place: Place, source: Ext, there: Ext) -> tuple[str, ...]:
    seed = frozenset({"metadata_csum_seed"}) if mark.is_marked(there.superblock) else frozenset()
    differ = (make.features(source.superblock) ^ make.features(there.superblock)) - seed
    differ -= {"large_file", "resize_inode"}  # set by use, or dropped by growing
    if not differ:
        return ()
    names = ", ".join(sorted(differ))
    return (f"{place.name}: the mirror was made with other features ({names}); they stay",)
