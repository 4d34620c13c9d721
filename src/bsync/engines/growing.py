# SPDX-License-Identifier: GPL-2.0-only
"""Growing a finished clone that has to be mounted for it."""

from __future__ import annotations

from bsync.acquire.mount import flush, mounted
from bsync.acquire.span import Span
from bsync.acquire.tree import loop_over
from bsync.errors import Unavailable
from bsync.filesystems.kinds import by_blocks
from bsync.ledger import Ledger
from bsync.plan.steps import CompleteBlocks
from bsync.run import run


def grow(step: CompleteBlocks, destination: Span, ledger: Ledger) -> str:
    """Have the kernel grow it to the blocks that the `step` says, if it can mount such a one; a few
    words on it.  Raises `CopyFailed`."""
    ability, place = by_blocks(step.source), step.place
    options = ["rw", "noatime", *ability.MOUNTED_WITH]
    name = f"growing-{place.number}"
    try:
        with (
            loop_over(ledger, destination, writable=True) as device,
            mounted(ledger, device, name, step.source.kind, options) as path,
        ):
            run(*ability.growing(str(path), step.grow))
            flush(path)
    except Unavailable as error:
        return f"not grown: {error.message}"
    return "done"
