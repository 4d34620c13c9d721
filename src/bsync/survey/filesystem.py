# SPDX-License-Identifier: GPL-2.0-only
"""What an extent of a device holds: blkid(8) names it, the superblock tells the rest."""

from __future__ import annotations

import dataclasses
import hashlib
import re

from bsync.acquire.block import Device
from bsync.errors import Unavailable
from bsync.filesystems import mark
from bsync.filesystems.kind import BadSuperblock, Kind
from bsync.filesystems.kinds import kind_named
from bsync.filesystems.swap import HIBERNATED, PAGES, page_size, unmakeable
from bsync.layout import Blank, Content, Extent, Filesystem, Problem, Swap, Unsupported
from bsync.run import run
from bsync.unfinished import SECTOR, is_begun
from bsync.units import KIB, MIB

_SEVERAL = "several"  # what is given as a type where there are signatures of several kinds
_NOTHING, _AMBIVALENT = 2, 8  # exit statuses of blkid --probe
_BEHIND = 64 * KIB  # bytes; less than that behind a filesystem is only rounding
_END = 128 * KIB  # bytes at the end in which members of RAIDs have superblocks
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


def signatures(device: Device, extent: Extent) -> dict[str, str]:
    """What blkid finds in `extent`: TYPE, PTTYPE, UUID and LABEL.  Raises `Unavailable`.

    It ends with the same status where it found nothing and where it could not read; only its
    debugging output tells which (a read beyond the end fails with "Success").
    """
    result = run(
        "blkid", "--probe", "--output", "udev", "--offset", str(extent.start),
        "--size", str(extent.size), device.path,
        ok=(0, _NOTHING, _AMBIVALENT), failure=Unavailable,
    )  # fmt: skip
    failed = _UNREADABLE.search(result.errors)
    if failed and result.status == _NOTHING:
        raise Unavailable(f"{device.word} cannot be read: {failed[1]}", _FAILING)
    if result.status == _AMBIVALENT:
        return {"TYPE": _SEVERAL}
    lines = (line.partition("=") for line in result.output.split("\n"))
    return {_NAMES[key]: _decoded(value) for key, _, value in lines if key in _NAMES}


def _decoded(text: str) -> str:
    """As blkid encodes what may be in a label: a byte that could confuse is \\xHH."""
    found = re.sub(rb"\\x([0-9a-f]{2})", lambda hit: bytes([int(hit[1], 16)]), text.encode())
    return found.decode("utf-8", "surrogateescape")


def content_of(device: Device, extent: Extent, found: dict[str, str] | None = None) -> Content:
    """The contents of `extent`, where blkid has `found` this, if it was asked already."""
    if extent.size < MIB // 64:
        return _unnamed(device, extent)
    content = _named(device, extent, signatures(device, extent) if found is None else found)
    nobodys = isinstance(content, Filesystem) and mark.is_marked(content)
    nobodys = nobodys or (isinstance(content, Unsupported) and content.unknown)
    if nobodys and is_begun(device.read(extent.start, len(SECTOR))):
        return Blank(begun=True)
    return content


def _named(device: Device, extent: Extent, found: dict[str, str]) -> Content:
    kind = found.get("TYPE", "")
    uuid, label = found.get("UUID", ""), found.get("LABEL", "")
    if answering := kind_named(kind):
        return _filesystem(device, extent, kind, answering)
    if kind in ("swap", HIBERNATED):
        start = device.read(extent.start, min(PAGES[-1], extent.size))
        if problem := unmakeable(start):
            return Unsupported("swap", uuid, label, *problem, start=_start(device, extent))
        return Swap(uuid, label, kind == HIBERNATED, page_size(start))
    if kind == _SEVERAL:
        return Unsupported(problem=Problem.AMBIGUOUS, start=_start(device, extent))
    if kind:
        return _unsupported(device, extent, kind, uuid, label)
    if table := found.get("PTTYPE"):
        return Unsupported(table, uuid, label, Problem.TABLE, start=_start(device, extent))
    return _unnamed(device, extent)


def _unsupported(device: Device, extent: Extent, kind: str, uuid: str, label: str) -> Unsupported:
    at_end, lies_at = False, None
    if kind.endswith("raid_member") and extent.size > 2 * _END:
        rest = Extent(extent.start, extent.size - _END)
        at_end = signatures(device, rest).get("TYPE") != kind
    if kind in _HIDDEN:
        at, size = _HIDDEN[kind]
        hidden = int.from_bytes(device.read(extent.start + at, size), "little")
        lies_at = hidden * device.sector_size
    return Unsupported(
        kind, uuid, label, start=_start(device, extent), at_end=at_end, lies_at=lies_at
    )


def _filesystem(
    device: Device, extent: Extent, name: str, kind: Kind[Filesystem]
) -> Filesystem | Unsupported:
    try:
        found = kind.read(name, device.read(extent.start, kind.reach))
    except BadSuperblock as error:
        return Unsupported(name, problem=Problem.DAMAGED, details=(str(error),))
    if found.size > extent.size:
        return Unsupported(name, problem=Problem.CUT_SHORT, details=(found.size, extent.size))
    found = kind.look(found, lambda at, size: device.read(extent.start + at, size))
    rest = min(_BEHIND, extent.size - found.size)
    behind = rest == _BEHIND and any(device.read(extent.start + found.size, rest))
    return dataclasses.replace(found, behind=behind)


def _unnamed(device: Device, extent: Extent) -> Content:
    """Nothing known; blank only if there are zeroes where things begin and end."""
    size = min(MIB, extent.size)
    ends = (extent.start, extent.end - size)
    if all(device.read(at, size) == bytes(size) for at in ends):
        return Blank()
    return Unsupported(start=_start(device, extent))


def _start(device: Device, extent: Extent) -> str:
    data = device.read(extent.start, min(MIB, extent.size)).rstrip(b"\0")
    return hashlib.sha256(data).hexdigest() if data else ""
