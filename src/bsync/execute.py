# SPDX-License-Identifier: GPL-2.0-only
"""A plan, carried out: the only module that changes a destination."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from bsync.acquire.block import Device
from bsync.acquire.span import Span
from bsync.acquire.tree import (
    NEVER,
    Tree,
    found_at,
    loop_over,
    mounted_tree,
    overwrite_start,
    recover,
)
from bsync.bootcode import disarmed
from bsync.engines import copiers, files, growing, raw
from bsync.engines.blocks import engine
from bsync.engines.copiers import Copier
from bsync.engines.rsync import Transfer
from bsync.errors import BsyncError, CopyFailed, nothing_written, writing
from bsync.events import Emit, Noticed, StepAdvanced, StepEnded, StepStarted
from bsync.explain import preparation, title
from bsync.filesystems import mark
from bsync.filesystems.kind import BadSuperblock
from bsync.filesystems.kinds import by_blocks, by_files, kind_of
from bsync.filesystems.swap import mkswap_arguments
from bsync.gpt import Records
from bsync.layout import Extent
from bsync.ledger import Ledger
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
    MarkBlocks,
    MarkFilesystem,
    Place,
    Plan,
    SetTable,
    Step,
    Way,
    WriteBoot,
    WriteTable,
)
from bsync.rehearsal import rehearse
from bsync.run import run
from bsync.unfinished import SECTOR, is_begun
from bsync.units import count_text, size_text

Advance = Callable[[int], None]

_COMPLETABLE = "the clone is incomplete: the same command completes it"
_ANEW = "wipe it (wipefs -a) and run again to recreate it"


@dataclass(frozen=True)
class Context:
    """What the steps work with."""

    ledger: Ledger
    source: Device
    destination: Device
    trees: dict[int, Tree]  # the source's filesystems, mounted, by partition number
    copiers: dict[int, Copier]  # those that go by blocks, the same

    def spans(self, place: Place) -> tuple[Span, Span]:
        """A place on the source, and on the destination."""
        return Span(self.source, place.source), Span(self.destination, place.destination)


def execute(
    plan: Plan, source: Device, destination: Device, ledger: Ledger, emit: Emit
) -> Transfer:
    """Carry out `plan`.  Every source filesystem is mounted, or read as far as a copy by blocks
    needs to know it, before the first byte is written.

    Raises `Unavailable` if that fails; `CopyFailed` once anything may have been written.
    """
    rehearse(plan, ledger)
    context = Context(ledger, source, destination, {}, {})
    with contextlib.ExitStack() as stack:
        with nothing_written():
            for step in plan.steps:
                if text := preparation(step):
                    emit(Noticed(f"{text} ..."))
                _prepare(step, context, stack)
        destination.publish()
        return _all_steps(plan, context, emit)


def _prepare(step: Step, context: Context, stack: contextlib.ExitStack) -> None:
    """Open what a step reads from."""
    if isinstance(step, CopyFiles):
        here, _ = context.spans(step.place)
        copiers.check_source(here, step.source)
        tree = mounted_tree(
            context.ledger, here, step.source, writable=False,
            since=NEVER if step.since is None else step.since,
        )  # fmt: skip
        context.trees[step.place.number] = stack.enter_context(tree)
    if isinstance(step, CopyBlocks):
        opening = copiers.opened(step, *context.spans(step.place))
        context.copiers[step.place.number] = stack.enter_context(opening)


def _all_steps(plan: Plan, context: Context, emit: Emit) -> Transfer:
    total = Transfer()
    for index, step in enumerate(plan.steps):
        emit(StepStarted(index, title(step), step.cost))
        with writing(_COMPLETABLE):
            done, said = _carry_out(step, context, _advancer(emit, index))
        if context.ledger.failures:  # a mount that stays busy may still change what is below
            raise CopyFailed(context.ledger.failures[0])
        emit(StepEnded(index, said, done.transferred, done.files, done.deleted))
        total += done
    context.destination.flush()
    return total


def _advancer(emit: Emit, index: int) -> Advance:
    return lambda done: emit(StepAdvanced(index, done))


def _carry_out(step: Step, context: Context, advance: Advance) -> tuple[Transfer, str]:
    """Do one step.  Returns what it transferred and a few words on it."""
    match step:
        case Disarm() | WriteBoot():
            _write_boot(step, context)
        case WriteTable():
            _write_table(step, context)
        case SetTable():
            _write_records(step.records, context.destination)
        case MakeFilesystem() | MarkFilesystem() | GrowExt() | MakeSwap():
            _make(step, context)
        case CopyFiles():
            return _copy_files(step, context, advance)
        case MarkBlocks() | CopyBlocks() | CompleteBlocks():
            return _by_blocks(step, context, advance)
        case CopyRaw():
            return _copy_raw(step, context, advance)
        case CompleteFilesystem():
            _complete(step, context)
    return Transfer(), "done"


def _make(step: MakeFilesystem | MarkFilesystem | GrowExt | MakeSwap, context: Context) -> None:
    match step:
        case MakeFilesystem():
            _make_filesystem(step, context)
        case MarkFilesystem():
            _mark(step, context)
        case GrowExt():
            _grow_ext(step, context)
        case MakeSwap():
            _make_swap(step, context)


def _target(context: Context, extent: Extent) -> contextlib.AbstractContextManager[str]:
    return loop_over(context.ledger, Span(context.destination, extent), writable=True)


def _wipe(device: str) -> None:
    """Erase every signature, so that nothing old is ever found beside the new; until there is
    something new, the first sector says so."""
    overwrite_start(device, SECTOR)
    run("wipefs", "--all", "--quiet", device)


def _write_table(step: WriteTable, context: Context) -> None:
    destination = context.destination
    with _target(context, Extent(0, destination.size)) as device:
        _wipe(device)
    _write_records(step.records, destination)
    if step.script:
        run(
            "sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--wipe", "never",
            "--wipe-partitions", "never", destination.path, given=step.script.encode(),
        )  # fmt: skip
        destination.flush()


def _write_records(records: Records, destination: Device) -> None:
    """The first record makes a table of them all, so it comes last."""
    for offset, record in reversed(records):
        destination.flush()
        destination.write(offset, record)
    destination.flush()


def _write_boot(step: Disarm | WriteBoot, context: Context) -> None:
    """What the boot code loads goes first, the boot code last."""
    if isinstance(step, Disarm):
        context.destination.write(0, disarmed())
        context.destination.flush()
        return
    for extent in step.gap:
        raw.update(Span(context.source, extent), Span(context.destination, extent))
    context.destination.flush()
    context.destination.write(0, step.boot_code)
    context.destination.flush()


def _make_swap(step: MakeSwap, context: Context) -> None:
    with _target(context, step.place.destination) as device:
        _wipe(device)
        run(*mkswap_arguments(step.source, device))


def _make_filesystem(step: MakeFilesystem, context: Context) -> None:
    source, kind = step.source, by_files(step.source)
    with _target(context, step.place.destination) as device:
        _wipe(device)
        _discard(device, context)
        run(*kind.making(source, step.place.destination.size, device))
        run(*kind.marking(source, found_at(device, source), device))
    _see_mark(step, context)
    start = step.place.destination.start
    if is_begun(context.destination.read(start, len(SECTOR))):
        context.destination.write(start, bytes(len(SECTOR)))
        context.destination.flush()


def _see_mark(step: MakeFilesystem | MarkFilesystem, context: Context) -> None:
    """Before anything else is written, the mark is on the medium: see it there."""
    kind = kind_of(step.source)
    beginning = context.destination.read(step.place.destination.start, kind.reach)
    with contextlib.suppress(BadSuperblock):
        if mark.is_unfinished_mirror(kind.read(step.source.kind, beginning), step.source):
            return
    raise CopyFailed(f"{step.place.name}: what was written to the destination is not there")


def _discard(device: str, context: Context) -> None:
    """Give back all but the first sector, which mke2fs would give back too; where that is not
    possible, nothing is lost.  An image file that has all of its room keeps it."""
    if context.destination.reserved:
        return
    run("blkdiscard", "--force", "--step", "1GiB", "--offset", "4096", device, ok=(0, 1))


def _mark(step: MarkFilesystem, context: Context) -> None:
    source, present = step.source, step.present
    with _target(context, step.place.destination) as device:
        if not present.clean:
            _repair(device, step, context.ledger)
        if present.uuid != mark.marker_uuid(source.uuid):
            run(*by_files(source).marking(source, present, device))
    _see_mark(step, context)


def _repair(device: str, step: MarkFilesystem, ledger: Ledger) -> None:
    """Recover the journal and mend what can be mended without asking."""
    try:
        recover(ledger, device, step.present)
    except CopyFailed as error:
        what = f"{step.place.at_destination} is damaged: {error.message}"
        raise CopyFailed(what, _ANEW) from None


def _grow_ext(step: GrowExt, context: Context) -> None:
    """Grow it; a run that is killed meanwhile, or fails, leaves what is made anew."""
    beginning = context.destination.read(step.place.destination.start, len(SECTOR))
    with _target(context, step.place.destination) as device:
        run("e2fsck", "-f", "-p", device, ok=(0, 1))
        overwrite_start(device, SECTOR)
        run("resize2fs", device, str(step.blocks))
        _check_grown(device, step)
        overwrite_start(device, beginning)


def _check_grown(device: str, step: GrowExt | CompleteBlocks) -> None:
    """What resize2fs made is only called complete if e2fsck finds nothing wrong in it."""
    by_blocks = isinstance(step, CompleteBlocks)
    try:
        run("e2fsck", "-f", "-n", device)
    except CopyFailed as error:
        raise CopyFailed(
            f"{step.place.at_destination} is damaged after growing: {error.message}",
            "--no-grow leaves it as large as its source" if by_blocks else _ANEW,
        ) from None


def _complete(step: CompleteFilesystem, context: Context) -> None:
    """Tune and check the finished clone, and take the mark away last, once all that was written
    is known to be on the medium."""
    source, kind = step.source, by_files(step.source)
    with _target(context, step.place.destination) as device:
        if not (present := found_at(device, source)).clean:
            raise _unsound(step, "the kernel found it damaged while it was mounted")
        for command in kind.completing(source, present, device):
            run(*command)
    _check(step, context)
    try:
        with _target(context, step.place.destination) as device:
            for command in kind.unmarking(source, found_at(device, source), device):
                run(*command)
    except CopyFailed:
        with contextlib.suppress(BsyncError), _target(context, step.place.destination) as device:
            run(*kind.marking(source, found_at(device, source), device))
        raise


def _check(step: CompleteFilesystem, context: Context) -> None:
    """Raise `CopyFailed` unless the finished clone is sound, as read from the medium."""
    try:
        with _target(context, step.place.destination) as device:
            if command := by_files(step.source).checking(device):
                run(*command)
    except CopyFailed as error:
        raise _unsound(step, error.message) from None


def _copy_files(step: CopyFiles, context: Context, advance: Advance) -> tuple[Transfer, str]:
    tree, place = context.trees[step.place.number], step.place
    with mounted_tree(context.ledger, context.spans(place)[1], step.source, writable=True) as there:
        done = files.mirror(tree, there, advance, checksum=step.checksum)
    return done, _said(done)


def _unsound(step: CompleteFilesystem, damage: str) -> CopyFailed:
    return CopyFailed(
        f"{step.place.at_destination} is damaged: {damage}",
        "is the disk below it full, or failing? see dmesg; wipefs -a lets it be made anew",
    )


def _said(done: Transfer) -> str:
    words = [count_text(done.files, "file"), f"{size_text(done.transferred)} transferred"]
    words += [f"{done.deleted:,} deleted"] if done.deleted else []
    return ", ".join(words)


def _by_blocks(
    step: MarkBlocks | CopyBlocks | CompleteBlocks, context: Context, advance: Advance
) -> tuple[Transfer, str]:
    match step:
        case MarkBlocks():
            return Transfer(), _mark_blocks(step, context)
        case CopyBlocks():
            done = context.copiers[step.place.number].copy(advance)
            return done, _said(done)
        case CompleteBlocks():
            return Transfer(), _complete_blocks(step, context)


def _mark_blocks(step: MarkBlocks, context: Context) -> str:
    copier = context.copiers[step.place.number]
    if step.way in (Way.FRESH, Way.RESUME):
        with _target(context, step.place.destination) as device:
            _wipe(device)
            if step.way is Way.FRESH:
                _discard(device, context)
    copier.begin(always=step.always)
    return "nothing differs" if copier.idle else "done"


def _complete_blocks(step: CompleteBlocks, context: Context) -> str:
    """Write the superblock; where the clone is to grow, as its own tools then leave it."""
    copier = context.copiers[step.place.number]
    if copier.idle:
        return "nothing differs"
    if not isinstance(copier, engine.Copier):
        copier.complete()
        there = context.spans(step.place)[1]
        return growing.grow(step, there, context.ledger) if step.grow else "done"
    if not step.grow:
        copier.complete()
        return "done"
    copier.settle()
    with _target(context, step.place.destination) as device:
        present = found_at(device, step.source)
        if renamed := present.uuid != mark.marker_uuid(step.source.uuid):
            run(*by_files(step.source).marking(step.source, present, device))
        run(*by_blocks(step.source).growing(device, step.grow))
        if renamed:  # with uninit_bg: the UUID is in every checksum, so that tune2fs changes it
            run("tune2fs", "-U", step.source.uuid, device)
        _check_grown(device, step)
    copier.complete_grown()
    return "done"


def _copy_raw(step: CopyRaw, context: Context, advance: Advance) -> tuple[Transfer, str]:
    if step.fresh:
        with _target(context, step.place.destination) as device:
            _wipe(device)
    written = raw.copy(*context.spans(step.place), advance)
    return Transfer(transferred=written), f"{size_text(written)} transferred"
