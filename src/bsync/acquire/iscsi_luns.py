# SPDX-License-Identifier: GPL-2.0-only
"""The disks of an iSCSI target, and the one that is meant; what goes wrong in plain words."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from bsync import distribution
from bsync.acquire.open_iscsi import Credentials
from bsync.errors import BsyncError, Refused, Unavailable
from bsync.locate import IscsiLun
from bsync.run import run
from bsync.units import size_text

_NAMED = Path("/etc/iscsi/initiatorname.iscsi")  # open-iscsi's: what targets know this host as
_NAME = "iqn.2008-11.org.linux-kvm:bsync"  # where there is none: QEMU's, and ours in it
_SECONDS = 10  # for the portal to answer
_QUERY = Path(__file__).with_name("iscsi_query.py")

# libiscsi's words, what they mean, and what can be done.
_REASONS: tuple[tuple[str, type[BsyncError], str, str], ...] = (
    (r"\(515\)", Unavailable, "the target does not know {iqn}", "check the target's name"),
    (
        r"\(513\)|[Aa]uthentication failure|requires? authentication", Unavailable,
        "the target refused the user name or the password",
        "the user goes before the portal (USER@PORTAL), the password into a file",
    ),
    (
        r"\(514\)|[Aa]uthorization failure", Unavailable,
        "the target does not allow this initiator, {initiator}", "see the target's access list",
    ),
    (r"0x2500", Unavailable, "the target has no LUN {lun}", "leave out the LUN to see them"),
    (
        r"[Tt]imed? ?out|did not end within|no answer", Unavailable,
        "the portal did not answer in time", "check address and port, and the firewalls",
    ),
    (
        r"[Cc]onnection refused|\(111\)|reconnect right now", Unavailable,
        "the portal refused the connection, or cannot be reached",
        "check address and port; is the target running?",
    ),
    (r"resolv", Unavailable, "cannot resolve the portal's host name", "check the portal's name"),
    (r"write protected", Refused, "the LUN is read-only", "it can only be a source"),
    (r"libiscsi is not", Unavailable, "not installed: libiscsi", "{libiscsi}"),
    (
        r"nknown driver|does not accept value|block-iscsi", Unavailable,
        "QEMU's iSCSI support is not installed", "{qemu_iscsi}",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Lun:
    """A disk of a target.  Sizes in bytes; size 0: no medium."""

    number: int
    size: int
    block_size: int
    read_only: bool
    name: str  # vendor and product
    wwid: str = ""  # as the kernel would have it; see `identity`


def chosen(locator: IscsiLun, credentials: Credentials | None) -> Lun:
    """The disk that `locator` names, or the only one that its target has.

    Raises `Unavailable`; `Refused` where several disks are there and none was named.
    """
    disks = luns(locator, credentials)
    wanted = [disk for disk in disks if locator.lun in (None, disk.number)]
    listed = ", ".join(f"LUN {disk.number} ({size_text(disk.size)})" for disk in disks)
    if not wanted:
        what = "no disk" if locator.lun is None else f"no disk at LUN {locator.lun}"
        raise Unavailable(f"{locator}: the target has {what}", f"it has: {listed or 'nothing'}")
    if len(wanted) > 1:
        raise Refused(f"{locator}: the target has {len(disks)} disks", f"name one: {listed}")
    if wanted[0].size == 0:
        raise Unavailable(f"{locator}: LUN {wanted[0].number} has no medium")
    return wanted[0]


def luns(locator: IscsiLun, credentials: Credentials | None) -> list[Lun]:
    """The disks of the target.  Raises `Unavailable`, in bounded time."""
    question: dict[str, object] = {
        "portal": portal(locator), "iqn": locator.iqn, "initiator": initiator(),
        "seconds": _SECONDS,
    }  # fmt: skip
    if credentials:
        question |= vars(credentials)
    try:
        result = run(
            sys.executable, "-I", "-S", str(_QUERY), given=json.dumps(question).encode(),
            timeout=2 * _SECONDS, failure=Unavailable,
        )  # fmt: skip
        answer = json.loads(result.output)
    except Unavailable as error:
        raise explained(locator, error.message) from None
    if "error" in answer:
        raise explained(locator, str(answer["error"]))
    return sorted((Lun(**lun) for lun in answer["luns"]), key=lambda lun: lun.number)


def explained(locator: IscsiLun, said: str) -> BsyncError:
    """What libiscsi said, or QEMU by it, as an error of ours."""
    for pattern, kind, what, hint in _REASONS:
        if re.search(pattern, said):
            facts = {
                "iqn": locator.iqn, "lun": locator.lun, "initiator": initiator(),
                "libiscsi": distribution.hint(["libiscsi"]),
                "qemu_iscsi": distribution.hint(["qemu-iscsi"]),
            }  # fmt: skip
            return kind(f"{locator}: {what.format(**facts)}", hint)
    return Unavailable(f"{locator}: {said}")


def portal(locator: IscsiLun) -> str:
    """HOST:PORT, an IPv6 address in brackets."""
    host = f"[{locator.portal}]" if ":" in locator.portal else locator.portal
    return f"{host}:{locator.port}"


def initiator() -> str:
    """The name that this host is known by to targets."""
    try:
        text = _NAMED.read_text()
    except OSError:
        return _NAME
    match = re.search(r"^InitiatorName=(\S+)", text, re.MULTILINE)
    return match.group(1) if match else _NAME
