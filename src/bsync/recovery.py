# SPDX-License-Identifier: GPL-2.0-only
"""What dead runs left behind, released: by their ledgers, and by the tags of their snapshots."""

from __future__ import annotations

from bsync import ledger as ledgers
from bsync.acquire import lvm, rebuild
from bsync.errors import BsyncError


def recover(*, volumes: bool) -> tuple[list[str], list[str]]:
    """Release what no living run holds.  Returns what was released, and what could not be.

    `volumes`: also the snapshots that outlived their ledgers in a reboot.
    """
    released, failures = ledgers.recover(rebuild)
    for snapshot in lvm.orphans(ledgers.runs()) if volumes else ():
        try:
            snapshot.release()
            released.append(f"{snapshot.kind} {snapshot.vg}/{snapshot.name}")
        except BsyncError as error:
            failures.append(error.message)
    return released, failures
