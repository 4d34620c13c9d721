# SPDX-License-Identifier: GPL-2.0-only
"""What a plan needs of the machine, tried before anything is written."""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator

from bsync.acquire import loop, mount
from bsync.acquire.loop import Over
from bsync.blockio.pump import WORKERS
from bsync.errors import Unavailable
from bsync.filesystems.kinds import by_files
from bsync.ledger import Ledger
from bsync.model.layout import Extent
from bsync.plan.steps import (
    CopyFiles,
    Disarm,
    MakeFilesystem,
    MarkBlocks,
    Plan,
    SetTable,
    WriteBoot,
)
from bsync.run import require, run

_SMALLEST = 1 << 20  # bytes of a loop device that is only tried
# Steps that write to the destination themselves; all others by a loop device on a part of it.
_WITHOUT_LOOP = (Disarm, SetTable, WriteBoot)
_BLOCKS_MEMORY = 768 << 20  # bytes of address space for the threads that copy by blocks


def preflight(plan: Plan, ledger: Ledger) -> None:
    """Let the tools and the kernel say beforehand whether they can make and mount each filesystem.

    Raises `Unavailable`.
    """
    require({program for step in plan.steps for program in step.programs})
    if any(isinstance(step, MarkBlocks) for step in plan.steps):
        _check_address_space()
        _try_threads()
    if any(not isinstance(step, _WITHOUT_LOOP) for step in plan.steps):
        with _sparse_loop(ledger, _SMALLEST):
            pass
    for step in plan.steps:
        if isinstance(step, CopyFiles):
            _try_mount(step, ledger)
    for step in plan.steps:
        if isinstance(step, MakeFilesystem):
            size = step.place.destination.size
            with _sparse_file(size) as (_, path):
                if command := by_files(step.source).trying(step.source, size, path):
                    run(*command, failure=Unavailable)


def _check_address_space() -> None:
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < _BLOCKS_MEMORY:
        have, need = limit >> 20, _BLOCKS_MEMORY >> 20
        message = f"copying by blocks needs {need} MiB of address space, and may have {have}"
        raise Unavailable(message, "raise the limit: ulimit -v")


def _try_mount(step: CopyFiles, ledger: Ledger) -> None:
    """Mount a filesystem like the step's, if not every kernel can write one."""
    trial = by_files(step.source).trial(step.source)
    if trial is None:
        return
    with _sparse_loop(ledger, trial.size) as device:
        run(*trial.command, device, failure=Unavailable)
        try:
            with mount.mounted(ledger, device, "trial", trial.type, ["rw"]):
                pass
        except Unavailable:
            raise Unavailable(
                f"{step.place.at_source} {trial.why}",
                "--engine raw copies the partition byte by byte",
            ) from None


def _try_threads() -> None:
    """Start as many threads as copy by blocks; where there are too few, `RuntimeError` tells."""
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(WORKERS)]
    try:
        for thread in threads:
            thread.start()
    finally:
        over.set()


@contextlib.contextmanager
def _sparse_loop(ledger: Ledger, size: int) -> Iterator[str]:
    """A loop device over a file in memory."""
    with (
        _sparse_file(size) as (descriptor, _),
        loop.attached(ledger, Over(descriptor, Extent(0, size), True)) as attached,
    ):
        yield attached.device


@contextlib.contextmanager
def _sparse_file(size: int) -> Iterator[tuple[int, str]]:
    """A file in memory that is as large as it need be, and holds nothing."""
    descriptor = os.memfd_create("bsync-preflight")
    try:
        os.ftruncate(descriptor, size)
        yield descriptor, f"/proc/{os.getpid()}/fd/{descriptor}"
    finally:
        os.close(descriptor)
