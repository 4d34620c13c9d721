# SPDX-License-Identifier: GPL-2.0-only
"""What is outside the filesystems: tables, boot code, swap, and copies byte by byte."""

from __future__ import annotations

from bsync.acquire.block import Device
from bsync.acquire.span import Span
from bsync.engines import raw
from bsync.engines.rsync import Transfer
from bsync.execution.context import Advance, Context, said, wipe
from bsync.filesystems.swap import mkswap_arguments
from bsync.model.gpt import Records
from bsync.model.layout import Extent
from bsync.plan.steps import CopyRaw, MakeSwap, WriteBoot, WriteTable
from bsync.run import run


def write_table(step: WriteTable, context: Context) -> None:
    """Write the records of a new table, or let sfdisk write it."""
    destination = context.destination
    with context.target(Extent(0, destination.size)) as device:
        wipe(device)
    write_records(step.records, destination)
    if step.script:
        run(
            "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never",
            "--wipe-partitions", "never", destination.path, given=step.script.encode(),
        )  # fmt: skip
        destination.flush()


def write_records(records: Records, destination: Device) -> None:
    """The first record makes a table of them all, so it comes last."""
    for offset, record in reversed(records):
        destination.flush()
        destination.write(offset, record)
    destination.flush()


def write_boot(step: WriteBoot, context: Context) -> str:
    """What the boot code loads goes first, the boot code last; a few words on it."""
    if step.restores and not context.stub.written:
        return "nothing differs"
    for extent in step.gap:
        raw.update(Span(context.source, extent), Span(context.destination, extent))
    context.destination.flush()
    context.destination.write(0, step.boot_code)
    context.destination.flush()
    return "done"


def make_swap(step: MakeSwap, context: Context) -> None:
    """Make a swap area."""
    with context.target(step.place.destination) as device:
        wipe(device)
        run(*mkswap_arguments(step.source, device))


def copy_raw(step: CopyRaw, context: Context, advance: Advance) -> tuple[Transfer, str]:
    """Copy every byte that differs; a few words on it."""
    if step.fresh:
        context.stub.write()
        with context.target(step.place.destination) as device:
            wipe(device)
    written = raw.copy(*context.spans(step.place), advance, context.stub.write)
    done = Transfer.of_bytes(written)
    return done, said(done)
