# SPDX-License-Identifier: GPL-2.0-only
"""Comparing a destination with its source.  Changes nothing on either.

`promised` compares what two surveys say, after every run.  `contents` mounts and reads
everything, for `bsync verify`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

from bsync.acquire.block import Device
from bsync.acquire.span import Span
from bsync.acquire.tree import check, mounted_tree
from bsync.engines import copiers, files, raw
from bsync.engines.rsync import Difference
from bsync.errors import CopyFailed
from bsync.events import (
    Comparing,
    Differed,
    Emit,
    Notice,
    Noticed,
    StepAdvanced,
    StepEnded,
    StepStarted,
)
from bsync.filesystems import marker
from bsync.filesystems.kinds import kind_of
from bsync.ledger import Ledger
from bsync.model.layout import (
    Content,
    Disk,
    Filesystem,
    Side,
    Swap,
    Volume,
    describe,
)
from bsync.plan.kept import unlike
from bsync.plan.steps import Place
from bsync.units import count_text

Pair = tuple[Place, Content, Content]
Spans = tuple[Span, Span]  # the source, and its place on the destination


def promised(source: Side, destination: Side) -> list[Differed]:
    """What is wrong with the destination, as far as two surveys show it; empty if nothing."""
    found = [Differed("", what) for what in _structure(source.layout, destination.layout)]
    for place, here, there in pairs(source, destination):
        found += [Differed(place.name, what) for what in _content(here, there)]
    return found


def contents(
    source: Side, destination: Side, devices: tuple[Device, Device], ledger: Ledger, emit: Emit,
    *, trees: bool,
) -> int:  # fmt: skip
    """Compare what the partitions hold, and tell of every difference.  Returns how many.

    Clones by blocks with the same blocks are the same, unless `trees` are to be compared.
    """
    compared = [
        (place, here, there)
        for place, here, there in pairs(source, destination)
        # of others, `promised` has said all that there is to say
        if not (
            isinstance(here, Swap) or (isinstance(there, Filesystem) and marker.is_marked(there))
        )
    ]
    parts = tuple((f"{place.name}: compare", _size(place, here)) for place, here, _ in compared)
    emit(Comparing(parts))
    count = 0
    for index, (place, here, there) in enumerate(compared):
        emit(StepStarted(index, *parts[index]))
        if note := _unchecked(here, there):
            emit(Noticed(Notice.UNCHECKED, f"{place.name}: {note}"))
        spans = (Span(devices[0], place.source), Span(devices[1], place.destination))
        comparison = _Comparison(place, here, there, spans, ledger, _advancer(emit, index))
        found = comparison.differences(trees=trees)
        for path, what in found:
            emit(Differed(place.name, what, path))
        emit(StepEnded(index, count_text(len(found), "difference") if found else "identical"))
        count += len(found)
    return count


def _unchecked(here: Content, there: Content) -> str:
    """What is not looked at in a clone of which nothing but its files tells."""
    if not (isinstance(here, Filesystem) and isinstance(there, Filesystem)):
        return ""
    files = kind_of(there).files
    if files is None or _is_raw_copy(here, there) or files.checking("", writable=False):
        return ""
    return f"its files are compared; the {there.kind} is not checked, its tool would write to it"


def _size(place: Place, here: Content) -> int:
    """The bytes to be compared, at most."""
    return here.used if isinstance(here, Filesystem) else place.source.size


def _advancer(emit: Emit, index: int) -> Callable[[int], None]:
    return lambda done: emit(StepAdvanced(index, done))


def pairs(source: Side, destination: Side) -> Iterator[Pair]:
    """Each of the source's contents with what stands in its place, where there is a place."""
    there = {volume.path: volume for volume in destination.layout.leaves()}
    for volume in source.layout.leaves():
        if mate := there.get(volume.path):
            number = int(volume.path[-1]) if volume.path else 0
            yield Place(number, volume.extent, mate.extent), volume.content, mate.content


def _structure(source: Volume, destination: Volume) -> Iterator[str]:
    match source, destination:
        case Disk(), Disk():
            yield from _disks(source, destination)
        case Disk(), _:
            yield "the destination has no partition table"
        case _, Disk():
            yield "the destination has a partition table, the source has none"


def _disks(source: Disk, destination: Disk) -> Iterator[str]:
    here, there = source.table, destination.table
    if there.incomplete:
        yield "the destination is marked as an incomplete clone"
    elif here.boot_code != there.boot_code:
        yield "the boot code differs"
    if here.gap.ranges and here.gap.digest != there.beside:
        yield "what stands before the first partition differs"
    if here.kind != there.kind:
        yield f"the table is {there.kind}, not {here.kind}"
        return
    for part in here.partitions:
        mate = there.partition(part.number)
        if mate is None:
            yield f"partition {part.number} is missing"
        elif mate.type.lower() != part.type.lower() and not (mate.is_extended and part.is_extended):
            yield f"partition {part.number} has type {mate.type}, not {part.type}"
    yield from unlike(source, destination)


def _content(here: Content, there: Content) -> Iterator[str]:
    match here, there:
        case Filesystem(), Filesystem():
            yield from _unlike(here, there)
        case Swap(), Swap():
            if (here.uuid, here.label) != (there.uuid, there.label):
                yield "the swap area has another UUID or label"
            if here.page_size != there.page_size:
                yield f"the swap area has pages of {there.page_size}, not {here.page_size} bytes"
        case _:
            if describe(here) != describe(there):
                yield f"holds {describe(there)}, not {describe(here)}"


def _unlike(here: Filesystem, there: Filesystem) -> list[str]:
    """What differs between two superblocks that should be each other's clone."""
    if marker.is_marked(there):
        return ["is marked as an incomplete clone"]
    facts = (
        ("kind", here.kind, there.kind),
        ("UUID", here.uuid, there.uuid),
        ("label", here.label, there.label),
        ("tuning", kind_of(here).tuning(here), kind_of(there).tuning(there)),
    )
    found = [f"its {name} differs" for name, one, other in facts if one != other]
    if _is_raw_copy(here, there) or kind_of(here).files is None:
        return found
    if not here.clean:
        found.append("the source's filesystem is not clean, its files were not compared")
    if not there.clean:
        found.append("its filesystem is not clean, its files were not compared")
    return found


def _is_raw_copy(here: Filesystem, there: Filesystem) -> bool:
    """Whether only a copy byte by byte can have made `there`: its files are not to be read."""
    files = kind_of(here).files
    unreadable = files is None or files.obstacle(here) is not None
    return unreadable and here.superblock == there.superblock


@dataclass(frozen=True)
class _Comparison:
    """One of the source's contents, and what stands in its place.  The differences of the whole
    have no path."""

    place: Place
    here: Content
    there: Content
    spans: Spans
    ledger: Ledger
    advance: Callable[[int], None]

    def differences(self, *, trees: bool) -> list[Difference]:
        here, there = self.here, self.there
        if not (isinstance(here, Filesystem) and isinstance(there, Filesystem)):
            return self._bytes()
        alike = None
        if not trees:
            alike = copiers.same_blocks(self.place, here, there, self.spans, self.advance)
        if alike:
            return []
        if alike is False and kind_of(here).mapped is not None:
            return [("", "its blocks in use differ")]
        found = self._filesystems(here, there)
        if alike is False and not found:
            return [("", "its files are the same, but not all of its blocks (metadata)")]
        return found

    def _filesystems(self, here: Filesystem, there: Filesystem) -> list[Difference]:
        if _is_raw_copy(here, there):
            return self._bytes()
        if not (here.clean and there.clean):
            return []
        if damage := self._damage(there):
            return [("", damage)]  # it may not even be mounted
        with ExitStack() as stack:
            source, destination = (
                stack.enter_context(mounted_tree(self.ledger, span, content, writable=False))
                for span, content in zip(self.spans, (here, there), strict=True)
            )
            return files.differences(source, destination)

    def _damage(self, there: Filesystem) -> str:
        """What its own tool finds wrong with a filesystem that was made by its files."""
        try:
            check(self.ledger, self.spans[1], there, writable=False)
        except CopyFailed as error:
            return f"its filesystem is damaged: {error.message}"
        return ""

    def _bytes(self) -> list[Difference]:
        here, there = self.spans
        if there.size < here.size:
            return [("", "is smaller than the source's")]
        return [] if raw.same(here, there, self.advance) else [("", "its bytes differ")]
