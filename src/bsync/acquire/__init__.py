# SPDX-License-Identifier: GPL-2.0-only
"""Everything a run takes from the machine, one file a kind.

`rebuild` turns a line of a dead run's ledger back into the resource it names.
"""

from __future__ import annotations

from bsync.acquire.generation import Draft
from bsync.acquire.loop import Loop, Node
from bsync.acquire.lvm import Snapshot
from bsync.acquire.mount import Directory, Mount
from bsync.acquire.open_iscsi import Session
from bsync.acquire.storage_daemon import StorageDaemon
from bsync.errors import Unreleased
from bsync.ledger import Facts, Resource


def rebuild(kind: str, facts: Facts) -> Resource:
    """The resource that a ledger line describes.  Raises `Unreleased` for an unknown one."""
    try:
        match kind:
            case Loop.kind:
                return Loop.from_facts(facts)
            case Node.kind:
                return Node.from_facts(facts)
            case Mount.kind:
                return Mount.from_facts(facts)
            case Directory.kind:
                return Directory.from_facts(facts)
            case Snapshot.kind:
                return Snapshot.from_facts(facts)
            case Draft.kind:
                return Draft.from_facts(facts)
            case Session.kind:
                return Session.from_facts(facts)
            case StorageDaemon.kind:
                return StorageDaemon.from_facts(facts)
    except (KeyError, TypeError, ValueError):
        pass
    raise Unreleased(f"a ledger names {kind} {facts}, which this version cannot release")
