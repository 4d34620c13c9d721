# SPDX-License-Identifier: GPL-2.0-only
"""A plan, carried out: the only module that changes a destination."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from bsync.acquire.block import Device
from bsync.acquire.tree import NEVER, mounted_tree
from bsync.engines import copiers
from bsync.engines.rsync import Transfer
from bsync.errors import CopyFailed, Stopped, joined, nothing_written, writing
from bsync.events import Emit, Notice, Noticed, StepAdvanced, StepEnded, StepStarted
from bsync.execution import by_blocks, by_files, disk
from bsync.execution.context import Advance, Context, Stub, said
from bsync.explain import preparation, title
from bsync.ledger import Ledger
from bsync.model.layout import Filesystem
from bsync.plan.steps import (
    CompleteBlocks,
    CompleteFilesystem,
    CopyBlocks,
    CopyFiles,
    CopyRaw,
    Disarm,
    GrowExt,
    MakeFilesystem,
    MakeSwap,
    Making,
    MarkBlocks,
    MarkFilesystem,
    Plan,
    SetTable,
    Step,
    WriteBoot,
    WriteTable,
)
from bsync.preflight import preflight

_COMPLETABLE = "the clone is incomplete: the same command completes it"


def execute(
    plan: Plan, source: Device, destination: Device, ledger: Ledger, emit: Emit
) -> Transfer:
    """Carry out `plan`.  Every source filesystem is mounted, or read as far as a copy by blocks
    needs to know it, before the first byte is written.

    Raises `Unavailable` if that fails; `CopyFailed` once anything may have been written.
    """
    preflight(plan, ledger)
    context = Context(ledger, source, destination, Stub(destination))
    with contextlib.ExitStack() as stack:
        with nothing_written():
            for step in plan.steps:
                if text := preparation(step):
                    emit(Noticed(Notice.PREPARING, f"{text} ..."))
                _prepare(step, plan, context, stack, emit)
        destination.publish()
        with _completable(context):
            return _all_steps(plan, context, emit)


def _prepare(
    step: Step, plan: Plan, context: Context, stack: contextlib.ExitStack, emit: Emit
) -> None:
    """Open what a step reads from, and see whether it has anything to do."""
    if isinstance(step, CopyFiles):
        here, _ = context.spans(step.place)
        copiers.check_source(here, step.source)
        tree = mounted_tree(
            context.ledger, here, step.source, writable=False,
            since=NEVER if step.since is None else step.since,
        )  # fmt: skip
        context.trees[step.place.number] = stack.enter_context(tree)
        present = _present(plan, step)
        by_files.check_names(step, present, context)
        if present and by_files.unchanged(step, present, context):
            context.same.add(step.place.number)
    if isinstance(step, CopyBlocks):
        opening = copiers.opened(step, *context.spans(step.place))
        copier = context.copiers[step.place.number] = stack.enter_context(opening)
        if copier.notice:
            emit(Noticed(Notice.OTHER_WAY, f"{step.place.name}: {copier.notice}"))


def _present(plan: Plan, copy: CopyFiles) -> Filesystem | None:
    """The clone that `copy` brings up to date, unless it is to grow before that."""
    steps = [step for step in plan.steps if isinstance(step, MarkFilesystem | GrowExt)]
    match [step for step in steps if step.place == copy.place]:
        case [MarkFilesystem(present=present)]:
            return present
    return None


def _all_steps(plan: Plan, context: Context, emit: Emit) -> Transfer:
    total = Transfer()
    for index, step in enumerate(plan.steps):
        emit(StepStarted(index, title(step), step.cost))
        with writing("" if context.destination.disposable else _COMPLETABLE):
            done, said = _carry_out(step, context, _advancer(emit, index))
        if context.ledger.failures:  # a mount that stays busy may still change what is below
            raise CopyFailed(context.ledger.failures[0])
        emit(StepEnded(index, said, done.transferred, done.files, done.deleted))
        total += done
    context.destination.flush()
    return total


@contextlib.contextmanager
def _completable(context: Context) -> Iterator[None]:
    """Whoever interrupts a run hears what completes the clone, if one was begun that stays."""
    try:
        yield
    except Stopped as stopped:
        if context.stub.begun and not context.destination.disposable:
            stopped.hint = joined(_COMPLETABLE, stopped.hint)
        raise


def _advancer(emit: Emit, index: int) -> Advance:
    return lambda done: emit(StepAdvanced(index, done))


def _carry_out(step: Step, context: Context, advance: Advance) -> tuple[Transfer, str]:
    """Do one step.  Returns what it transferred and a few words on it."""
    match step:
        case Disarm():
            context.stub.wanted = True
            return Transfer(), "before the first write"
        case WriteBoot():
            return Transfer(), disk.write_boot(step, context)
        case WriteTable():
            context.stub.begun = True
            disk.write_table(step, context)
        case SetTable():
            context.stub.begun = True
            disk.write_records(step.records, context.destination)
        case MarkBlocks() | CopyBlocks() | CompleteBlocks():
            return _by_blocks(step, context, advance)
        case MarkFilesystem() | CopyFiles() | CompleteFilesystem() if _same(step, context):
            return Transfer(), "nothing differs"
        case CopyRaw():
            return disk.copy_raw(step, context, advance)
        case _:
            context.stub.write()
            return _written(step, context, advance)
    return Transfer(), "done"


def _same(step: MarkFilesystem | CopyFiles | CompleteFilesystem, context: Context) -> bool:
    return step.place.number in context.same


def _by_blocks(
    step: MarkBlocks | CopyBlocks | CompleteBlocks, context: Context, advance: Advance
) -> tuple[Transfer, str]:
    match step:
        case MarkBlocks():
            return Transfer(), by_blocks.mark_blocks(step, context)
        case CopyBlocks():
            done = context.copiers[step.place.number].copy(advance)
            return done, said(done)
        case CompleteBlocks():
            return Transfer(), by_blocks.complete_blocks(step, context)


def _written(
    step: Making | CopyFiles | CompleteFilesystem, context: Context, advance: Advance
) -> tuple[Transfer, str]:
    """Do a step that writes in any case."""
    match step:
        case MakeFilesystem():
            by_files.make_filesystem(step, context)
        case MarkFilesystem():
            by_files.mark(step, context)
        case GrowExt():
            by_files.grow_ext(step, context)
        case MakeSwap():
            disk.make_swap(step, context)
        case CopyFiles():
            return by_files.copy_files(step, context, advance)
        case CompleteFilesystem():
            by_files.complete(step, context)
    return Transfer(), "done"
