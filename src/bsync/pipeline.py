"""The stages of a run, in order: the file to read first.

argv → Locator → Device → Layout → Plan → (shown) → steps → verified → released
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bsync import ledger as ledgers
from bsync import verify
from bsync.acquire import rebuild
from bsync.acquire.block import Device, opened
from bsync.acquire.mount import private_namespace
from bsync.engines.rsync import Transfer
from bsync.errors import CopyFailed, Different, Refused, Unreleased
from bsync.events import Emit, Finished, Noticed, Planned
from bsync.execute import execute
from bsync.layout import Side
from bsync.locate import parse
from bsync.plan import Options, Plan, make_plan
from bsync.survey import survey
from bsync.units import count_text, size_text

Confirm = Callable[[Plan], bool]


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    source: str
    destination: str
    options: Options
    create: int = 0  # bytes of an image file to make; 0: it exists


def clone(request: Request, emit: Emit, confirm: Confirm) -> None:
    """Make the destination a mirror of the source."""
    _recover_orphans(emit)
    private_namespace()
    with _ledger() as ledger, _devices(request) as (source, destination):
        plan = _plan(request, source, destination)
        emit(Planned(plan))
        if plan.destroys and not confirm(plan):
            raise Refused("not confirmed: nothing was written", "--yes answers the question")
        done = execute(plan, source, destination, ledger, emit)
        _check(source, destination)
        emit(_finished(done))


def plan(request: Request, emit: Emit) -> None:
    """Show what `clone` would do."""
    with _devices(request) as (source, destination):
        emit(Planned(_plan(request, source, destination)))


def check(request: Request, emit: Emit) -> None:
    """Compare both sides in everything, and raise `Different` if they are not mirrors."""
    private_namespace()
    with _ledger() as ledger, _devices(request, writable=False) as devices:
        source, destination = (survey(device) for device in devices)
        differences = verify.promised(source, destination)
        for difference in differences:
            emit(Noticed(difference))
        for difference in verify.contents(source, destination, devices, ledger):
            differences.append(difference)
            emit(Noticed(difference))
        if differences:
            raise Different(f"not a mirror: {count_text(len(differences), 'difference')}")
        emit(Finished("identical: table, boot code, filesystems, every file"))


def inspect(word: str) -> Side:
    """What is on one device."""
    with opened(parse(word), writable=False) as device:
        return survey(device)


def recover() -> list[str]:
    """Release what dead runs left.  Returns what was; raises `Unreleased` if not all could be."""
    released, failures = ledgers.recover(rebuild)
    if failures:
        raise Unreleased("; ".join(failures))
    return released


def _plan(request: Request, source: Device, destination: Device) -> Plan:
    return make_plan(survey(source), survey(destination), request.options)


@contextlib.contextmanager
def _devices(request: Request, *, writable: bool = True) -> Iterator[tuple[Device, Device]]:
    """Both devices, open; the words are all read before either is touched."""
    here, there = parse(request.source), parse(request.destination)
    with (
        opened(here, writable=False) as source,
        opened(there, writable=writable, create=request.create, apart_from=source) as destination,
    ):
        yield source, destination


@contextlib.contextmanager
def _ledger() -> Iterator[ledgers.Ledger]:
    """A ledger; whatever could not be released is said once nothing worse is being said."""
    with ledgers.opened() as ledger:
        yield ledger
    if ledger.failures:
        raise Unreleased("; ".join(ledger.failures), "bsync recover tries again")


def _recover_orphans(emit: Emit) -> None:
    released, failures = ledgers.recover(rebuild)
    for what in released:
        emit(Noticed(f"released what an earlier run left: {what}"))
    for failure in failures:
        emit(Noticed(f"an earlier run left something that cannot be released: {failure}"))


def _check(source: Device, destination: Device) -> None:
    """The destination, looked at anew, is what was promised."""
    differences = verify.promised(survey(source), survey(destination))
    if differences:
        raise CopyFailed(f"the result is not what was planned: {'; '.join(differences)}")


def _finished(done: Transfer) -> Finished:
    words = [count_text(done.files, "file"), size_text(done.transferred) + " transferred"]
    if done.deleted:
        words.append(f"{done.deleted:,} deleted")
    return Finished(", ".join(words), done.transferred, done.files, done.deleted)
