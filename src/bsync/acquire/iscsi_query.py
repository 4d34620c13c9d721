# SPDX-License-Identifier: GPL-2.0-only
"""Asks an iSCSI target for its LUNs, by libiscsi; run as a program, JSON in and JSON out.

A process of its own, since a C library that waits cannot be interrupted, and one that fails
takes its process with it.  It imports nothing of bsync's, so that Python needs no path to it.

In, on standard input: portal, iqn, initiator, seconds, and for CHAP user, password,
target_user, target_password.  Out: `{"luns": […]}` or `{"error": "…"}`.
Structures: libiscsi's scsi-lowlevel.h; commands: SPC-4 (REPORT LUNS, INQUIRY, MODE SENSE) and
SBC-3 (READ CAPACITY).
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any, ClassVar

_LIBRARIES = ("libiscsi.so.7", "libiscsi.so.9", "libiscsi.so.8", "libiscsi.so.10")
_NORMAL_SESSION, _DIGEST_IF_WANTED = 2, 1  # enum iscsi_session_type, iscsi_header_digest
_DISK = 0  # peripheral device type: direct access block device
_ALL_PAGES = 0x3F  # of MODE SENSE
_WRITE_PROTECTED = 0x80  # of its device-specific parameter
_IDENTIFICATION = 0x83  # the page of vital product data with a disk's names
_SEVERAL = 16384  # bytes for the answers to REPORT LUNS

# name: result, arguments after the context
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "iscsi_get_error": (c_char_p, ()),
    "iscsi_set_targetname": (c_int, (c_char_p,)),
    "iscsi_set_session_type": (c_int, (c_int,)),
    "iscsi_set_header_digest": (c_int, (c_int,)),
    "iscsi_set_timeout": (c_int, (c_int,)),
    "iscsi_set_noautoreconnect": (None, (c_int,)),
    "iscsi_set_initiator_username_pwd": (c_int, (c_char_p, c_char_p)),
    "iscsi_set_target_username_pwd": (c_int, (c_char_p, c_char_p)),
    "iscsi_connect_sync": (c_int, (c_char_p,)),
    "iscsi_login_sync": (c_int, ()),
    "iscsi_logout_sync": (c_int, ()),
    "iscsi_reportluns_sync": (c_void_p, (c_int, c_int)),
    "iscsi_inquiry_sync": (c_void_p, (c_int, c_int, c_int, c_int)),
    "iscsi_readcapacity16_sync": (c_void_p, (c_int,)),
    "iscsi_modesense6_sync": (c_void_p, (c_int,) * 6),
    "iscsi_testunitready_sync": (c_void_p, (c_int,)),
}


class _LunList(ctypes.Structure):
    _fields_: ClassVar = [("count", c_uint32), ("luns", c_uint16 * 0)]


class _Inquiry(ctypes.Structure):
    _fields_: ClassVar = [
        ("qualifier", c_int), ("type", c_int), ("removable", c_int), ("version", c_int),
        ("flags", c_int * 3), ("additional_length", c_int), ("more_flags", c_int * 14),
        ("vendor", ctypes.c_char * 9), ("product", ctypes.c_char * 17),
    ]  # fmt: skip


class _Capacity(ctypes.Structure):
    _fields_: ClassVar = [
        ("last_block", c_uint64), ("block_size", c_uint32), ("protection", c_uint8 * 4),
        ("thin", c_uint8), ("zeroing", c_uint8), ("alignment", c_uint16),
    ]  # fmt: skip


class _Designator(ctypes.Structure):
    """One name of a LUN, its target or its port; a list linked by the first field."""


_Designator._fields_ = [
    ("next", POINTER(_Designator)), ("protocol", c_int), ("code_set", c_int), ("piv", c_int),
    ("association", c_int), ("kind", c_int), ("length", c_int), ("name", c_void_p),
]  # fmt: skip


class _Identification(ctypes.Structure):
    _fields_: ClassVar = [
        ("qualifier", c_int), ("type", c_int), ("page", c_int),
        ("designators", POINTER(_Designator)),
    ]  # fmt: skip


class _ModeSense(ctypes.Structure):
    _fields_: ClassVar = [("length", c_uint16), ("medium", c_uint8), ("specific", c_uint8)]


class _Failure(Exception):
    """libiscsi's own words."""


class _Session:
    """A session with a target."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self._library = _loaded()
        create = self._library.iscsi_create_context
        create.restype, create.argtypes = c_void_p, (c_char_p,)
        self._context = create(asked["initiator"].encode())
        self._call("iscsi_set_targetname", asked["iqn"].encode())
        self._call("iscsi_set_session_type", _NORMAL_SESSION)
        self._call("iscsi_set_header_digest", _DIGEST_IF_WANTED)
        self._call("iscsi_set_timeout", asked["seconds"])
        self._call("iscsi_set_noautoreconnect", 1)
        for side in ("initiator", "target"):
            prefix = "target_" if side == "target" else ""
            if asked.get(f"{prefix}user"):
                words = (asked[f"{prefix}{word}"].encode() for word in ("user", "password"))
                self._call(f"iscsi_set_{side}_username_pwd", *words)
        for name, arguments in (
            ("iscsi_connect_sync", (asked["portal"].encode(),)),
            ("iscsi_login_sync", ()),
        ):
            if self._call(name, *arguments):
                raise _Failure(self._error())

    def luns(self) -> Iterator[dict[str, object]]:
        """Every LUN that is a disk."""
        for lun in self._lun_numbers():
            inquiry = self._ask(_Inquiry, "iscsi_inquiry_sync", lun, 0, 0, 96)
            if inquiry is not None and inquiry.type == _DISK and inquiry.qualifier == 0:
                names = (inquiry.vendor, inquiry.product)
                name = " ".join(word.decode("ascii", "replace").strip() for word in names)
                yield {"number": lun, "name": name, "wwid": self._wwid(lun), **self._disk(lun)}

    def leave(self) -> None:
        self._call("iscsi_logout_sync")

    def _lun_numbers(self) -> list[int]:
        task = self._call("iscsi_reportluns_sync", 0, _SEVERAL)
        answer = self._answer(_LunList, task)
        if answer is None:
            raise _Failure(self._error())
        array = c_uint16 * answer.count
        return list(array.from_address(ctypes.addressof(answer) + _LunList.luns.offset))

    def _disk(self, lun: int) -> dict[str, object]:
        self._call("iscsi_testunitready_sync", lun)  # takes "power on occurred" off
        capacity = self._ask(_Capacity, "iscsi_readcapacity16_sync", lun)
        mode = self._ask(_ModeSense, "iscsi_modesense6_sync", lun, 1, 0, _ALL_PAGES, 0, 255)
        if capacity is None:
            return {"size": 0, "block_size": 0, "read_only": False}
        return {
            "size": (capacity.last_block + 1) * capacity.block_size,
            "block_size": capacity.block_size,
            "read_only": mode is not None and bool(mode.specific & _WRITE_PROTECTED),
        }

    def _wwid(self, lun: int) -> str:
        page = self._ask(_Identification, "iscsi_inquiry_sync", lun, 1, _IDENTIFICATION, 255)
        names = []
        each = page.designators if page is not None else None
        while each:
            found = each.contents
            if found.association == 0 and found.name and found.length > 0:
                names.append((found.kind, ctypes.string_at(found.name, found.length)))
            each = found.next
        return wwid(names)

    def _ask(self, kind: Any, name: str, *arguments: int) -> Any:
        return self._answer(kind, self._call(name, *arguments))

    def _answer(self, kind: Any, task: int | None) -> Any:
        """The task's answer, or None.  Tasks are never freed: the process ends soon."""
        if not task:
            return None
        unmarshall = self._library.scsi_datain_unmarshall
        unmarshall.restype, unmarshall.argtypes = POINTER(kind), (c_void_p,)
        answer = unmarshall(task)
        return answer.contents if answer else None

    def _call(self, name: str, *arguments: object) -> Any:
        function = getattr(self._library, name)
        result, after = _FUNCTIONS[name]
        function.restype, function.argtypes = result, (c_void_p, *after)
        return function(self._context, *arguments)

    def _error(self) -> str:
        return bytes(self._call("iscsi_get_error") or b"").decode("utf-8", "replace")


def wwid(names: list[tuple[int, bytes]]) -> str:
    """The best of a LUN's names (type, value) as the kernel writes it: scsi_vpd_lun_id(), so that
    a disk has the same one by either initiator."""
    kind, value = max(names, key=_preference, default=(0, b""))
    match kind:  # types of designators: SCSI name string, NAA, EUI-64, T10 vendor
        case 8:
            return value.split(b"\0")[0].decode("utf-8", "replace")
        case 3:
            return f"naa.{value.hex()}"
        case 2:
            return f"eui.{value.hex()}"
        case 1:
            return f"t10.{value.decode('ascii', 'replace')}"
    return ""


def _preference(name: tuple[int, bytes]) -> int:
    kind, value = name
    match kind:
        case 8:
            return 9
        case 3:
            return {6: 8, 5: 5, 4: 4, 2: 4, 3: 1}.get(value[0] >> 4, 0)
        case 2:
            return {16: 7, 12: 6, 8: 3}.get(len(value), 0)
    return 1 if kind == 1 else 0


def _loaded() -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            return ctypes.CDLL(name)
        except OSError:
            continue
    raise _Failure("libiscsi is not installed")


def main() -> None:
    """Answer the one question on standard input."""
    answer: dict[str, object]
    try:
        session = _Session(json.load(sys.stdin))
        answer = {"luns": list(session.luns())}
        session.leave()
    except _Failure as failure:
        answer = {"error": str(failure)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
