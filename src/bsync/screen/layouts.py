# SPDX-License-Identifier: GPL-2.0-only
"""What is on a device, as a table and as a bar.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from bsync.model.layout import (
    BOOT_PROGRAM,
    Content,
    Disk,
    Extent,
    Filesystem,
    Partition,
    Side,
    Swap,
    describe,
)
from bsync.screen.text import columns_of, cut, in_columns, meter, padded, wrapped
from bsync.screen.types import type_name
from bsync.units import MIB, Marked, printable, size_text

_SMALL = MIB  # bytes between partitions that no row tells of: they are aligned so
_NARROWEST = 3  # columns of a partition in a bar: "[1]"

# What may be told of a partition, in order, and the heads; the label by itself where there is room.
_HEADS = {
    "number": "", "start": "Start", "size": "Size", "type": "Type", "contents": "Contents",
    "kind": "Contents", "label": "Label", "used": "Used", "uuid": "UUID",
}  # fmt: skip
_RIGHT = frozenset(("number", "start", "size"))
_SIDE = (("number", "size", "type", "contents", "used", "uuid"),
         ("number", "size", "type", "contents", "used"))  # fmt: skip
_WHOLE = (("number", "start", "size", "type", "kind", "label", "used", "uuid"),
          ("number", "start", "size", "type", "contents", "used", "uuid"),
          ("number", "start", "size", "type", "kind", "label", "used"),
          ("number", "start", "size", "type", "contents", "used"))  # fmt: skip

Row = tuple[str, ...]


def layout_text(side: Side, width: int = 80) -> str:
    """What is on a device, for people: with starts, sizes and gaps."""
    sectors = f"sectors of {side.layout.sector_size} bytes"
    head = f"{side.word}: {side.description}, {size_text(side.layout.size)}, {sectors}"
    return "\n".join([*wrapped(printable(head), width, 2), *contents(side, width, whole=True)])


def contents(side: Side, width: int, *, whole: bool = False) -> list[str]:
    """What is on a device, in lines; with starts and gaps if it is to be the `whole`."""
    layout = side.layout
    if not isinstance(layout, Disk):
        return wrapped(printable(_bare(layout.content)), width, 2)
    return [*wrapped(printable(_table(layout)), width, 2), *_partitions(layout, width, whole)]


def _bare(content: Content) -> str:
    match content:
        case Filesystem():
            used = f"{size_text(content.used)} of {size_text(content.size)} used "
            used += meter(content.used, content.size)
            clean = "" if content.clean else "not clean, "
            return f"{' '.join(filter(None, (describe(content), content.uuid)))}, {clean}{used}"
        case Swap(uuid=uuid):
            return f"{describe(content)} {uuid}"
    return describe(content)


def _table(disk: Disk) -> str:
    table, gap = disk.table, disk.table.gap
    boot = ", boot code" if any(table.boot_code[:BOOT_PROGRAM]) else ""
    boot = ", INCOMPLETE CLONE" if table.incomplete else boot
    boot += f" and {size_text(gap.size)} before the first partition" if gap.size else ""
    faults = table.gpt.faults if table.gpt else ()
    return "; ".join((f"{table.kind} table {table.identifier}{boot}", *faults))


def _partitions(disk: Disk, width: int, whole: bool) -> list[str]:
    """A row for each, and for each gap; UUIDs where there is room."""
    found = [(part.extent.start, _row(disk, part)) for part in disk.table.partitions]
    if whole:
        found = sorted([*found, *((gap.start, _free(gap)) for gap in gaps(disk))])
    if not found:
        return []
    rows = [tuple(map(printable, row)) for row in (tuple(_HEADS.values()), *(r for _, r in found))]
    for names in _WHOLE if whole else _SIDE:
        shown, right = _columns(rows, names)
        if max(map(columns_of, in_columns(shown, right, 0))) <= width:
            break
    return in_columns(shown, right, len(right), width)


def _columns(rows: list[Row], names: tuple[str, ...]) -> tuple[list[Row], frozenset[int]]:
    """The columns of these names, and which are aligned to the right; without a label, and at the
    end, none in which there is nothing."""
    every = tuple(_HEADS)
    filled = {name for at, name in enumerate(every) if any(row[at] for row in rows[1:])}
    kept = [name for name in names if name != "label" or name in filled]
    while kept[-1] not in filled:
        kept.pop()
    right = frozenset(at for at, name in enumerate(kept) if name in _RIGHT)
    return [tuple(row[every.index(name)] for name in kept) for row in rows], right


def _row(disk: Disk, part: Partition) -> Row:
    content, start, size = part.content, size_text(part.extent.start), size_text(part.extent.size)
    kind = type_name(disk.table.kind, part.type) + (", bootable" if part.bootable else "")
    if part.is_extended:
        return str(part.number), start, size, kind, "", "", "", "", ""
    label = content.label if isinstance(content, Filesystem | Swap) else ""
    bare = replace(content, label="") if isinstance(content, Swap) else content
    plain = content.kind if isinstance(content, Filesystem) else describe(bare)
    uuid = content.uuid if isinstance(content, Filesystem | Swap) else ""
    used = meter(content.used, content.size) if isinstance(content, Filesystem) else ""
    if isinstance(content, Filesystem) and not content.clean:
        used += ", not clean"
    words = describe(content), plain, label
    return str(part.number), start, size, kind, *words, used, uuid


def _free(gap: Extent) -> Row:
    return "", size_text(gap.start), size_text(gap.size), "free", "", "", "", "", ""


def gaps(disk: Disk) -> Iterator[Extent]:
    """What no partition takes, on the disk and in an extended partition."""
    parts = disk.table.partitions
    for around in (disk.extent, *(part.extent for part in parts if part.is_extended)):
        within = [
            part.extent
            for part in parts
            if part.extent != around and around.start <= part.extent.start < around.end
        ]
        yield from _between(within, around)


def _between(taken: Iterable[Extent], around: Extent) -> Iterator[Extent]:
    at = around.start
    for extent in sorted(taken, key=lambda one: one.start):
        if extent.start - at > _SMALL:
            yield Extent(at, extent.start - at)
        at = max(at, extent.end)
    if around.end - at > _SMALL:
        yield Extent(at, around.end - at)


def bar(
    labels: Iterable[tuple[Extent, str]], size: int, width: int, lost: Collection[Extent] = ()
) -> Marked:
    """A disk of `size` bytes in one line, each of its partitions as wide as its share of it; what
    is `lost` is marked."""
    pieces: list[tuple[int, str | None, bool]] = []  # columns, the label where it is no gap, lost
    at = 0
    for extent, label in sorted(labels, key=lambda one: one[0].start):
        pieces.append((_share(extent.start - at, size, width), None, False))
        share = max(_share(extent.size, size, width), _NARROWEST)
        pieces.append((share, printable(label), extent in lost))
        at = extent.end
    excess = sum(piece[0] for piece in pieces) - width
    while excess > 0 and max(piece[0] for piece in pieces) > _NARROWEST:
        widest = pieces.index(max(pieces, key=lambda piece: piece[0]))
        pieces[widest] = (pieces[widest][0] - 1, *pieces[widest][1:])
        excess -= 1
    line, marks = "", []
    for columns, text, gone in pieces:
        begin = len(line)
        line += " " * columns if text is None else f"[{_label(text, columns - 2)}]"
        marks += [(begin, len(line))] if gone else []
    return Marked(cut(line.rstrip(), width), marks)


def _share(part: int, size: int, width: int) -> int:
    """Columns for so many bytes of a disk; what a damaged table says may be anything."""
    return min(max(part * width // size, 0), width)


def _label(text: str, columns: int) -> str:
    """The label of a partition in its piece of a bar, or at least its number."""
    number = text.split()[0]
    return padded(text if columns > columns_of(number) + 1 else number, columns)
