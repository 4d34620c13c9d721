# SPDX-License-Identifier: GPL-2.0-only
"""Which engine copies the blocks of a filesystem, and what is asked of its structures."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from bsync.acquire.span import Span
from bsync.engines import allocated, smaller
from bsync.engines.blocks import directories, engine
from bsync.engines.blocks import pair as pairs
from bsync.errors import Damaged
from bsync.filesystems.ext.superblock import Ext
from bsync.filesystems.fat.superblock import Fat
from bsync.filesystems.kinds import by_blocks, kind_of
from bsync.model.layout import Filesystem
from bsync.plan.relation import began_as_blocks
from bsync.plan.steps import CopyBlocks, Place, Way

Advance = Callable[[int], None]
Copier = engine.Copier | allocated.Copier | smaller.Copier


@contextlib.contextmanager
def opened(step: CopyBlocks, source: Span, destination: Span) -> Iterator[Copier]:
    """What does the `step`, ready for it.  Raises `CopyFailed`, and `Damaged` where the source
    cannot be relied on."""
    with contextlib.ExitStack() as stack:
        copier: Copier
        if _is_smaller(step.place, step.source) and isinstance(step.source, Fat):
            copier = smaller.Copier((source, destination), step.source, step.place, step.way)
        elif kind_of(step.source).mapped is not None:
            opening = allocated.opened(source, destination, step.place, step.source, step.way)
            copier = stack.enter_context(opening)
        else:
            copier = engine.Copier(stack.enter_context(pairs.opened(source, destination)), step.way)
        copier.prepare()
        yield copier


def check_source(span: Span, source: Filesystem) -> None:
    """Raise `Damaged` if what the files of `source` are found by is damaged: the kernel may show
    fewer of them, and say nothing."""
    if isinstance(source, Ext):
        directories.check_source(span, source)


def same_blocks(
    place: Place, here: Filesystem, there: Filesystem, spans: tuple[Span, Span], advance: Advance
) -> bool | None:
    """Whether all blocks in use are the same; None where `there` is no clone of the blocks."""
    if not began_as_blocks(here, there) or here.unmapped:
        return None
    if by_blocks(here).obstacle(here, place.destination.size, grow=False):
        return None
    if _is_smaller(place, here) and isinstance(here, Fat):
        compared = smaller.Copier(spans, here, place, Way.COMPARE)
        compared.prepare()
        return compared.same(advance)
    if kind_of(here).mapped is not None:
        opening = allocated.opened(*spans, place, here, Way.COMPARE, writable=False)
        with opening as copier:
            copier.prepare()
            return copier.same(advance)
    return _same_ext(spans, advance) if here.clean and there.clean else None


def _is_smaller(place: Place, source: Filesystem) -> bool:
    return place.destination.size < source.size


def _same_ext(spans: tuple[Span, Span], advance: Advance) -> bool:
    with pairs.opened(*spans, writable=False) as pair:
        try:
            pairs.half(pair.destination)
        except Damaged:
            return False
        return engine.same(pair, advance)
