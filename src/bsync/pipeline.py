# SPDX-License-Identifier: GPL-2.0-only
"""The stages of a run, in order: the file to read first.

argv → Request → Device → Volume → Plan → (shown) → steps → verified → released
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from bsync import pace, passwords, recovery, repair, session, verify
from bsync.acquire.block import Device
from bsync.acquire.opening import Means, Role, opened
from bsync.engines.rsync import Transfer
from bsync.errors import (
    CopyFailed,
    Different,
    InUse,
    Refused,
    Unreleased,
    nothing_written,
    writing,
)
from bsync.events import Emit, Finished, Notice, Noticed, Planned
from bsync.execute import execute
from bsync.execution.context import said
from bsync.ledger import Ledger
from bsync.model.layout import Side
from bsync.plan import Plan, make_plan
from bsync.request import Request
from bsync.survey import survey
from bsync.units import count_text

Confirm = Callable[[Plan], bool]
_Opened = TypeVar("_Opened")
_PAUSE = 8.0  # seconds between two looks at whether a device is free, at most


def clone(request: Request, emit: Emit, confirm: Confirm) -> None:
    """Make the destination a clone of the source."""
    with (
        session.entered(request, emit, mounting=True, recovering=True) as ledger,
        _devices(request, ledger, emit) as (source, destination),
    ):
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
        session.entered(request, emit) as ledger,
        _devices(request, ledger, emit, Role.PLAN) as (source, destination),
    ):
        here = _survey(source, ledger)
        emit(Planned(make_plan(here, survey(destination, here.layout), request.options)))


@nothing_written()
def check(request: Request, emit: Emit) -> None:
    """Compare both sides in everything, and raise `Different` if they are not clones."""
    with (
        session.entered(request, emit, mounting=True) as ledger,
        _devices(request, ledger, emit, Role.SIGHT) as devices,
    ):
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
            raise Different(f"not a clone: {found}", f"{request.mending} removes them")
    emit(Finished("identical: table, boot code, filesystems, every file"))


@nothing_written()
def inspect(request: Request, emit: Emit) -> Side:
    """What is on the source."""
    with (
        session.entered(request, emit) as ledger,
        _waited_for(
            partial(opened, request.source, Role.GLANCE, _means(request, ledger, emit)[0]),
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
    request: Request, ledger: Ledger, emit: Emit, role: Role = Role.DESTINATION
) -> Iterator[tuple[Device, Device]]:
    """Both devices, open."""
    here, there = request.source, request.destination
    assert there is not None
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


def _means(request: Request, ledger: Ledger, emit: Emit) -> tuple[Means, Means]:
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


def _survey(device: Device, ledger: Ledger) -> Side:
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
