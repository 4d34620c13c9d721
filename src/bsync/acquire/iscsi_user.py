# SPDX-License-Identifier: GPL-2.0-only
"""iSCSI where the kernel has no initiator: by QEMU's storage daemon, in user space.

CHAP works in both sessions, the one that lists the LUNs and the daemon's.  Mutual CHAP only
in the first, as QEMU's driver cannot ask for it; a target that proves itself once and is not
asked again proves nothing, so it is refused.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from bsync.acquire.backing import BackingExtent, disk
from bsync.acquire.identity import all_paths_held, identity
from bsync.acquire.iscsi_luns import Lun, chosen, explained, initiator, portal
from bsync.acquire.open_iscsi import Credentials
from bsync.acquire.reserved import reserved
from bsync.acquire.storage_daemon import PASSWORD, Export, Node, exported
from bsync.acquire.watchdog import PATIENCE
from bsync.distribution import hint
from bsync.errors import Refused, Unavailable
from bsync.ledger import Ledger
from bsync.locate import IscsiLun

_COMMAND = 30  # seconds for one command of the initiator's; it is then repeated


@dataclass(frozen=True)
class Attached:
    """A LUN as a file."""

    export: Export
    lun: Lun
    backing: BackingExtent


@contextlib.contextmanager
def attached(
    ledger: Ledger,
    locator: IscsiLun,
    credentials: Credentials | None,
    *,
    writable: bool,
    wanted: bool = False,
    patience: float = PATIENCE,
) -> Iterator[Attached]:
    """The LUN as a file, until the end of the block; see `exported` for what holds for it.

    Raises `Unavailable`; `Refused` where it is read-only and should be written (`wanted`: later),
    is in use by another run, or where it is not clear which is meant.
    """
    if credentials and credentials.target_user:
        raise Unavailable(
            f"{locator}: mutual CHAP needs the kernel's initiator", hint(["iscsiadm"])
        )
    lun = chosen(locator, credentials)
    if (writable or wanted) and lun.read_only:
        raise Refused(f"{locator}: LUN {lun.number} is read-only", "it can only be a source")
    name = identity(lun.wwid, locator.iqn, lun.number)
    backing = disk(name, lun.size)
    with (
        all_paths_held(str(locator), name),
        reserved(ledger, str(locator), backing, writable),
        exported(ledger, _node(locator, lun, credentials), writable=writable,
                 patience=patience) as export,
    ):  # fmt: skip
        yield Attached(export, lun, backing)


def _node(locator: IscsiLun, lun: Lun, credentials: Credentials | None) -> Node:
    options: dict[str, object] = {
        "driver": "iscsi", "transport": "tcp", "portal": portal(locator), "target": locator.iqn,
        "lun": lun.number, "initiator-name": initiator(), "timeout": _COMMAND,
        "cache": {"direct": True},  # else it remembers which blocks hold nothing
    }  # fmt: skip
    if credentials:
        options |= {"user": credentials.user, "password-secret": PASSWORD}
    return Node(
        str(locator),
        options,
        lambda said: explained(locator, said),
        credentials.password if credentials else "",
        twice=True,
    )
