# SPDX-License-Identifier: GPL-2.0-only
"""The stages of a run, in order: the file to read first.

argv → Locator → Device → Volume → Plan → (shown) → steps → verified → released
"""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from bsync import ledger as ledgers
from bsync import pace, passwords, recovery, repair, verify
from bsync.acquire.block import Device
from bsync.acquire.mount import private_namespace
from bsync.acquire.opening import Means, Role, opened
from bsync.engines.rsync import Transfer
from bsync.errors import (
    BsyncError,
    CopyFailed,
    Different,
    InUse,
    Refused,
    Stopped,
    Unreleased,
    nothing_written,
    writing,
)
from bsync.events import Emit, Finished, Notice, Noticed, Planned
from bsync.execute import execute
from bsync.execution.context import said
from bsync.layout import Side
from bsync.locate import DevicePath, LoopFile, LvmSnapshot, parse
from bsync.plan import Options, Plan, make_plan
from bsync.survey import survey
from bsync.units import USUAL, Share, count_text

Confirm = Callable[[Plan], bool]
_Opened = TypeVar("_Opened")
_PAUSE = 8.0  # seconds between two looks at whether a device is free, at most


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    source: str
    destination: str
    options: Options
    create: int = 0  # bytes of an image file to make; 0: it exists
    snapshot_size: Share = USUAL  # of a classic LVM snapshot
    password_file: str = ""  # for iSCSI, of both sides; see `passwords`
    source_password_file: str = ""
    destination_password_file: str = ""
    trees: bool = False  # a verification is to compare trees in any case
    keep: int | None = None  # generations of an image that is written as a whole, if it is
    wait: int = 0  # seconds for a device that something else uses
    rate: int = 0  # bytes a second to be copied at most; 0: as fast as it goes


def clone(request: Request, emit: Emit, confirm: Confirm) -> None:
    """Make the destination a clone of the source."""
    with nothing_written():
        _recover_orphans(request, emit)
        private_namespace()
    with _ledger() as ledger, _devices(request, ledger, emit) as (source, destination):
        with nothing_written():
            here = _survey(source, ledger)
            plan = make_plan(here, survey(destination, here.layout), request.options)
        emit(Planned(plan))
        if plan.destroys and not confirm(plan):
            raise Refused("not confirmed: nothing was written", "--yes answers the question")
        with _explained(source, destination), pace.limited(request.rate):
            done = execute(plan, source, destination, ledger, emit)
            _check(plan, destination)
        destination.guard.commit()
    emit(_finished(done))


@nothing_written()
def plan(request: Request, emit: Emit) -> None:
    """Show what `clone` would do."""
    with (
        _ledger_if_needed(request.source, request.destination) as ledger,
        _devices(request, ledger, emit, Role.PLAN) as (source, destination),
    ):
        here = _survey(source, ledger)
        emit(Planned(make_plan(here, survey(destination, here.layout), request.options)))


@nothing_written()
def check(request: Request, emit: Emit) -> None:
    """Compare both sides in everything, and raise `Different` if they are not clones."""
    private_namespace()
    with _ledger() as ledger, _devices(request, ledger, emit, Role.SIGHT) as devices:
        source = _survey(devices[0], ledger)
        destination = survey(devices[1], source.layout)
        differences = verify.promised(source, destination)
        for difference in differences:
            emit(difference)
        count = len(differences)
        count += verify.contents(source, destination, devices, ledger, emit, trees=request.trees)
        devices[0].guard.check()
        if count:
            found = count_text(count, "difference")
            raise Different(f"not a clone: {found}", f"{_command(request)} removes them")
    emit(Finished("identical: table, boot code, filesystems, every file"))


@nothing_written()
def inspect(request: Request, emit: Emit) -> Side:
    """What is on the source."""
    locator = parse(request.source)
    with (
        _ledger_if_needed(request.source) as ledger,
        _waited_for(
            partial(opened, locator, Role.GLANCE, _means(request, ledger, emit)[0]),
            request.wait,
            emit,
        ) as device,
    ):
        return survey(device)


@nothing_written()
def recover() -> list[str]:
    """Release what dead runs left.  Returns what was; raises `Unreleased` if not all could be."""
    released, failures = recovery.recover(volumes=True)
    if failures:
        raise Unreleased("; ".join(failures))
    return released


@contextlib.contextmanager
def _devices(
    request: Request, ledger: ledgers.Ledger, emit: Emit, role: Role = Role.DESTINATION
) -> Iterator[tuple[Device, Device]]:
    """Both devices, open; the words are all read before either is touched."""
    here, there = parse(request.source), parse(request.destination)
    ours, theirs = _means(request, ledger, emit)

    @contextlib.contextmanager
    def both() -> Iterator[tuple[Device, Device]]:
        with (
            opened(here, Role.SOURCE, ours) as source,
            opened(there, role, theirs, apart_from=source) as destination,
        ):
            yield source, destination

    with contextlib.ExitStack() as stack:
        with nothing_written():
            devices = stack.enter_context(_waited_for(both, request.wait, emit))
        yield devices


@contextlib.contextmanager
def _waited_for(
    what: Callable[[], contextlib.AbstractContextManager[_Opened]], seconds: int, emit: Emit
) -> Iterator[_Opened]:
    """What `what` opens, tried again for so many seconds while something else uses it.  Between two
    attempts nothing is held: whoever is waited for may be waiting for us."""
    deadline, pause = time.monotonic() + seconds, 0.5
    with contextlib.ExitStack() as held:
        while True:
            try:
                found = held.enter_context(what())
                break
            except InUse as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                if pause == 0.5:
                    emit(Noticed(Notice.WAITING, f"{error.message}: waiting {seconds} s at most"))
            time.sleep(min(pause, left))
            pause = min(pause * 2, _PAUSE)
        yield found


def _means(request: Request, ledger: ledgers.Ledger, emit: Emit) -> tuple[Means, Means]:
    """Those for the source, and those for the destination."""
    files = (request.source_password_file, request.destination_password_file)
    source, destination = (
        Means(
            ledger,
            lambda text: emit(Noticed(Notice.SNAPSHOT_FILLS, text)),
            passwords.provider(side, file, request.password_file),
            request.snapshot_size,
            request.create,
            request.keep,
        )
        for side, file in zip(passwords.SIDES, files, strict=True)
    )
    return source, destination


def _command(request: Request) -> str:
    """The command that makes the destination a clone again, whatever is wrong with it."""
    return shlex.join(["bsync", "--checksum", request.source, request.destination])


def _survey(device: Device, ledger: ledgers.Ledger) -> Side:
    """What is on `device`.  A copy of ours that was taken in the middle of a filesystem's work
    is first repaired as the next mount would."""
    side = survey(device)
    if device.disposable and repair.settle(side, device, ledger):
        return survey(device)
    return side


@contextlib.contextmanager
def _explained(*devices: Device) -> Iterator[None]:
    """What is under the devices may know better why a copy failed, or that it did."""
    try:
        yield
    except CopyFailed:
        for device in devices:
            device.guard.check()
        devices[-1].check_room()
        raise
    for device in devices:
        device.guard.check()


def _ledger_if_needed(*words: str) -> contextlib.AbstractContextManager[ledgers.Ledger]:
    """A ledger where acquiring leaves traces; a file or device can be looked at without one."""
    local = all(isinstance(parse(word), DevicePath | LoopFile) for word in words)
    return contextlib.nullcontext(ledgers.unopened()) if local else _ledger()


@contextlib.contextmanager
def _ledger() -> Iterator[ledgers.Ledger]:
    """A ledger; whatever could not be released is said once nothing worse is being said."""
    with ledgers.opened() as ledger:
        try:
            yield ledger
        except (BsyncError, Stopped) as error:
            if ledger.failures:
                error.left_something()
            raise
    if ledger.failures:
        raise Unreleased("; ".join(ledger.failures), "bsync recover tries again")


def _recover_orphans(request: Request, emit: Emit) -> None:
    words = (request.source, request.destination)
    volumes = any(isinstance(parse(word), LvmSnapshot) for word in words)
    released, failures = recovery.recover(volumes=volumes)
    for what in released:
        emit(Noticed(Notice.RELEASED, f"released what an earlier run left: {what}"))
    for failure in failures:
        text = f"an earlier run left something that cannot be released: {failure}"
        emit(Noticed(Notice.LEFT, text))


def _check(plan: Plan, destination: Device) -> None:
    """The destination, looked at anew, is what was promised."""
    with writing():
        differences = verify.promised(plan.source, survey(destination, plan.source.layout))
    if differences:
        raise CopyFailed(
            f"the result is not what was planned: {'; '.join(one.text for one in differences)}"
        )


def _finished(done: Transfer) -> Finished:
    return Finished(said(done), done.transferred, done.files, done.deleted)
