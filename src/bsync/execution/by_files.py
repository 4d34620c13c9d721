# SPDX-License-Identifier: GPL-2.0-only
"""A filesystem that is made anew, and whose files are copied."""

from __future__ import annotations

import contextlib
import os

from bsync.acquire.tree import check, found_at, mounted_tree, overwrite_start, recover
from bsync.engines import files
from bsync.engines.rsync import Transfer
from bsync.errors import BsyncError, CopyFailed, Refused
from bsync.execution.by_blocks import check_grown
from bsync.execution.context import ANEW, Advance, Context, said, wipe
from bsync.filesystems import marker as markers
from bsync.filesystems.kind import BadSuperblock
from bsync.filesystems.kinds import by_files, kind_of
from bsync.in_progress import SECTOR, is_begun
from bsync.ledger import Ledger
from bsync.model.layout import Filesystem
from bsync.plan.steps import (
    CompleteFilesystem,
    CopyFiles,
    GrowExt,
    MakeFilesystem,
    MarkFilesystem,
)
from bsync.run import run


def check_names(step: CopyFiles, present: Filesystem | None, context: Context) -> None:
    """Raise `Refused` if a directory is not sure to fit, unless a finished clone has it already."""
    there = step.source if step.fresh else present
    if there is None:
        return
    tree = context.trees[step.place.number]
    found = files.overfull(tree, there)
    if found and there.clean and not (step.fresh or markers.is_marked(there)):
        span = context.spans(step.place)[1]
        with mounted_tree(context.ledger, span, there, writable=False) as clone:
            found = files.overfull(tree, there, clone)
    if found:
        path, names, most = found
        raise Refused(
            f"{step.place.at_source}: {os.fsdecode(path)} holds {names:,} names, and only {most:,} "
            f"are sure to fit into a directory of an {there.kind} that is made by files",
            "--engine blocks copies it as it is; or give the source large_dir (tune2fs -O)",
        )


def unchanged(step: CopyFiles, present: Filesystem, context: Context) -> bool:
    """Whether the clone that is there, finished and sound, is just what `step` would make of it."""
    kind = kind_of(step.source)
    names = (present.kind, present.uuid, present.label, kind.tuning(present))
    wanted = (step.source.kind, step.source.uuid, step.source.label, kind.tuning(step.source))
    if names != wanted or not present.clean:
        return False
    there = context.spans(step.place)[1]
    try:
        with mounted_tree(context.ledger, there, present, writable=False) as tree:
            here = context.trees[step.place.number]
            same = files.same(here, tree, checksum=step.checksum)
        if same:
            check(context.ledger, there, present, writable=False)
        return same
    except CopyFailed:  # the ordinary way says what is wrong with it
        return False


def make_filesystem(step: MakeFilesystem, context: Context) -> None:
    """Make it, marked, and see the marker."""
    source, kind = step.source, by_files(step.source)
    with context.target(step.place.destination) as device:
        wipe(device)
        context.discard(device)
        run(*kind.making(source, step.place.destination.size, device))
        run(*kind.marking(source, found_at(device, source), device))
    _see_mark(step, context)
    start = step.place.destination.start
    if is_begun(context.destination.read(start, len(SECTOR))):
        context.destination.write(start, bytes(len(SECTOR)))
        context.destination.flush()


def _see_mark(step: MakeFilesystem | MarkFilesystem, context: Context) -> None:
    """Before anything else is written, the marker is on the medium: see it there."""
    kind = kind_of(step.source)
    beginning = context.destination.read(step.place.destination.start, kind.reach)
    with contextlib.suppress(BadSuperblock):
        if markers.is_incomplete_clone(kind.read(step.source.kind, beginning), step.source):
            return
    raise CopyFailed(f"{step.place.name}: what was written to the destination is not there")


def mark(step: MarkFilesystem, context: Context) -> None:
    """Mark what is there, and see the marker."""
    source, present = step.source, step.present
    cut_off = markers.is_incomplete_clone(present, source)
    with context.target(step.place.destination) as device:
        if not present.clean:
            _repair(device, step, context.ledger, anything=cut_off)
        if not present.clean or present.uuid != markers.marker_uuid(source.uuid):
            run(*by_files(source).marking(source, present, device))
    _see_mark(step, context)


def _repair(device: str, step: MarkFilesystem, ledger: Ledger, *, anything: bool) -> None:
    """Recover the journal and mend what can be mended without asking.  In a clone that was cut off
    that is `anything`: all that is in it is compared with the source again, by contents, as the
    plan has it for every one that is not clean."""
    try:
        recover(ledger, device, step.present, anything=anything)
    except CopyFailed as error:
        raise CopyFailed(
            f"{step.place.at_destination} is damaged: {error.message}",
            ANEW,
        ) from None


def grow_ext(step: GrowExt, context: Context) -> None:
    """Grow it; a run that is killed meanwhile, or fails, leaves what is made anew."""
    beginning = context.destination.read(step.place.destination.start, len(SECTOR))
    with context.target(step.place.destination) as device:
        run("e2fsck", "-f", "-p", device, ok=(0, 1))
        overwrite_start(device, SECTOR)
        run("resize2fs", device, str(step.blocks))
        check_grown(device, step)
        overwrite_start(device, beginning)


def complete(step: CompleteFilesystem, context: Context) -> None:
    """Tune and check the finished clone, and take the marker away last, once all that was written
    is known to be on the medium."""
    source, kind = step.source, by_files(step.source)
    with context.target(step.place.destination) as device:
        if not (present := found_at(device, source)).clean:
            raise _unsound(step, "the kernel found it damaged while it was mounted")
        context.destination.check_room()  # a loop device takes the beginning of a write for all
        for command in kind.completing(source, present, device):
            run(*command)
    _check(step, context)
    try:
        with context.target(step.place.destination) as device:
            for command in kind.unmarking(source, found_at(device, source), device):
                run(*command)
    except CopyFailed:
        with contextlib.suppress(BsyncError), context.target(step.place.destination) as device:
            run(*kind.marking(source, found_at(device, source), device))
        raise


def _check(step: CompleteFilesystem, context: Context) -> None:
    """Raise `CopyFailed` unless the finished clone is sound, as read from the medium."""
    try:
        check(context.ledger, context.spans(step.place)[1], step.source, writable=True)
    except CopyFailed as error:
        raise _unsound(step, error.message) from None


def copy_files(step: CopyFiles, context: Context, advance: Advance) -> tuple[Transfer, str]:
    """Copy what differs; a few words on it."""
    tree, place = context.trees[step.place.number], step.place
    with mounted_tree(context.ledger, context.spans(place)[1], step.source, writable=True) as there:
        done = files.clone(tree, there, advance, checksum=step.checksum)
    return done, said(done)


def _unsound(step: CompleteFilesystem, damage: str) -> CopyFailed:
    return CopyFailed(
        f"{step.place.at_destination} is damaged: {damage}",
        "is the disk below it full, or failing? see dmesg; wipefs -a lets it be made anew",
    )
