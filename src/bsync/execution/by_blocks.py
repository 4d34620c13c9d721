# SPDX-License-Identifier: GPL-2.0-only
"""A filesystem whose blocks are copied."""

from __future__ import annotations

from bsync.acquire.tree import found_at
from bsync.engines import growing
from bsync.engines.blocks import engine
from bsync.errors import CopyFailed
from bsync.execution.context import ANEW, Context, wipe
from bsync.filesystems import marker
from bsync.filesystems.kinds import by_blocks, by_files
from bsync.plan.steps import CompleteBlocks, GrowExt, MarkBlocks, Way
from bsync.run import run


def mark_blocks(step: MarkBlocks, context: Context) -> str:
    """Find room for it, or mark what is there, unless nothing differs; a few words on it."""
    copier = context.copiers[step.place.number]
    if not copier.idle or step.always:
        copier.before_writing(context.stub.write)
    if step.way in (Way.FRESH, Way.RESUME):
        with context.target(step.place.destination) as device:
            wipe(device)
            if step.way is Way.FRESH:
                context.discard(device)
    copier.begin(always=step.always)
    return "nothing differs" if copier.idle else "done"


def complete_blocks(step: CompleteBlocks, context: Context) -> str:
    """Write the superblock; where the clone is to grow, as its own tools then leave it."""
    copier = context.copiers[step.place.number]
    if copier.idle:
        return "nothing differs"
    if not isinstance(copier, engine.Copier):
        copier.complete()
        there = context.spans(step.place)[1]
        return growing.grow(step, there, context.ledger) if step.grow else "done"
    if not step.grow:
        copier.complete()
        return "done"
    copier.settle()
    with context.target(step.place.destination) as device:
        present = found_at(device, step.source)
        if renamed := present.uuid != marker.marker_uuid(step.source.uuid):
            run(*by_files(step.source).marking(step.source, present, device))
        run(*by_blocks(step.source).growing(device, step.grow))
        if renamed:  # with uninit_bg: the UUID is in every checksum, so that tune2fs changes it
            run("tune2fs", "-U", step.source.uuid, device)
        check_grown(device, step)
    copier.complete_grown()
    return "done"


def check_grown(device: str, step: GrowExt | CompleteBlocks) -> None:
    """What resize2fs made is only called complete if e2fsck finds nothing wrong in it."""
    by_blocks = isinstance(step, CompleteBlocks)
    try:
        run("e2fsck", "-f", "-n", device)
    except CopyFailed as error:
        raise CopyFailed(
            f"{step.place.at_destination} is damaged after growing: {error.message}",
            "--no-grow leaves it as large as its source" if by_blocks else ANEW,
        ) from None
