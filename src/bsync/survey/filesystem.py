# SPDX-License-Identifier: GPL-2.0-only
"""What an extent of a device holds: blkid(8) names it, the superblock tells the rest."""

from __future__ import annotations

import dataclasses
import hashlib
import re

from bsync.acquire.span import Span
from bsync.errors import Unavailable
from bsync.filesystems import marker
from bsync.filesystems.kind import BadSuperblock, Kind
from bsync.filesystems.kinds import kind_named
from bsync.filesystems.swap import HIBERNATED, PAGES, page_size, unmakeable
from bsync.in_progress import SECTOR, is_begun
from bsync.model.layout import Blank, Content, Filesystem, Problem, Swap, Unsupported
from bsync.run import run
from bsync.units import KIB, MIB

_SEVERAL = "several"  # what is given as a type where there are signatures of several kinds
_NOTHING, _AMBIVALENT = 2, 8  # exit statuses of blkid --probe
_BEHIND = 64 * KIB  # bytes; less than that behind a filesystem is only rounding
_END = 128 * KIB  # bytes at the end in which members of RAIDs and of DRBD have superblocks
# Where boot sectors say how many sectors of the disk are before them: offset and size in bytes.
_HIDDEN = {"ntfs": (0x1C, 4), "exfat": (0x40, 8)}
_UNREADABLE = re.compile(r"read failed: (?!Success)(.*)")
_FAILING = "the kernel's log (dmesg) says more; ddrescue saves what can be read of a failing disk"
# Of the ways in which blkid speaks, only udev's tells every label unambiguously.
_NAMES = {
    "ID_FS_TYPE": "TYPE",
    "ID_FS_UUID_ENC": "UUID",
    "ID_FS_LABEL_ENC": "LABEL",
    "ID_PART_TABLE_TYPE": "PTTYPE",
}


def signatures(span: Span) -> dict[str, str]:
    """What blkid finds in `span`: TYPE, PTTYPE, UUID and LABEL.  Raises `Unavailable`.

    It ends with the same status where it found nothing and where it could not read; only its
    debugging output tells which (a read beyond the end fails with "Success").
    """
    result = run(
        "blkid", "--probe", "--output", "udev", "--offset", str(span.extent.start),
        "--size", str(span.size), span.device.path,
        ok=(0, _NOTHING, _AMBIVALENT), failure=Unavailable,
    )  # fmt: skip
    failed = _UNREADABLE.search(result.errors)
    if failed and result.status == _NOTHING:
        raise Unavailable(f"{span.word} cannot be read: {failed[1]}", _FAILING)
    if result.status == _AMBIVALENT:
        return {"TYPE": _SEVERAL}
    lines = (line.partition("=") for line in result.output.split("\n"))
    return {_NAMES[key]: _decoded(value) for key, _, value in lines if key in _NAMES}


def _decoded(text: str) -> str:
    """As blkid encodes what may be in a label: a byte that could confuse is \\xHH."""
    found = re.sub(rb"\\x([0-9a-f]{2})", lambda hit: bytes([int(hit[1], 16)]), text.encode())
    return found.decode("utf-8", "surrogateescape")


def content_of(span: Span, found: dict[str, str] | None = None) -> Content:
    """The contents of `span`, where blkid has `found` this, if it was asked already."""
    if span.size < MIB // 64:
        return _unnamed(span)
    content = _named(span, signatures(span) if found is None else found)
    nobodys = isinstance(content, Filesystem) and marker.is_marked(content)
    nobodys = nobodys or (isinstance(content, Unsupported) and content.unknown)
    if nobodys and is_begun(span.read(0, len(SECTOR))):
        return Blank(begun=True)
    return content


def _named(span: Span, found: dict[str, str]) -> Content:
    kind = found.get("TYPE", "")
    uuid, label = found.get("UUID", ""), found.get("LABEL", "")
    if answering := kind_named(kind):
        return _filesystem(span, kind, answering)
    if kind in ("swap", HIBERNATED):
        start = span.read(0, min(PAGES[-1], span.size))
        if problem := unmakeable(start):
            return Unsupported("swap", uuid, label, *problem, start=_start(span))
        return Swap(uuid, label, kind == HIBERNATED, page_size(start))
    if kind == _SEVERAL:
        return Unsupported(problem=Problem.AMBIGUOUS, start=_start(span))
    if kind:
        return _unsupported(span, kind, uuid, label)
    if table := found.get("PTTYPE"):
        return Unsupported(table, uuid, label, Problem.TABLE, start=_start(span))
    return _unnamed(span)


def _unsupported(span: Span, kind: str, uuid: str, label: str) -> Unsupported:
    at_end, lies_at = False, None
    if kind.endswith(("raid_member", "drbd")) and span.size > 2 * _END:
        at_end = signatures(span.part(0, span.size - _END)).get("TYPE") != kind
    if kind in _HIDDEN:
        at, size = _HIDDEN[kind]
        hidden = int.from_bytes(span.read(at, size), "little")
        lies_at = hidden * span.device.sector_size
    return Unsupported(kind, uuid, label, start=_start(span), at_end=at_end, lies_at=lies_at)


def _filesystem(span: Span, name: str, kind: Kind[Filesystem]) -> Filesystem | Unsupported:
    try:
        found = kind.read(name, span.read(0, kind.reach))
    except BadSuperblock as error:
        return Unsupported(name, problem=Problem.DAMAGED, details=(str(error),))
    if found.size > span.size:
        return Unsupported(name, problem=Problem.CUT_SHORT, details=(found.size, span.size))
    found = kind.look(found, span.read)
    rest = min(_BEHIND, span.size - found.size)
    behind = rest == _BEHIND and any(span.read(found.size, rest))
    return dataclasses.replace(found, behind=behind)


def _unnamed(span: Span) -> Content:
    """Nothing known; blank only if there are zeroes where things begin and end."""
    size = min(MIB, span.size)
    if all(span.read(at, size) == bytes(size) for at in (0, span.size - size)):
        return Blank()
    return Unsupported(start=_start(span))


def _start(span: Span) -> str:
    data = span.read(0, min(MIB, span.size)).rstrip(b"\0")
    return hashlib.sha256(data).hexdigest() if data else ""
