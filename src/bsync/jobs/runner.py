# SPDX-License-Identifier: GPL-2.0-only
"""Jobs, run as commands of their own, so many at once.

Each is a process that holds and releases what is its own.  A signal that asks us to end asks them,
and we wait until all have released what they held; what kills us leaves them to end by themselves.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bsync.errors import BsyncError, CopyFailed, Status
from bsync.events import Notice
from bsync.jobs.jobfile import Job
from bsync.jobs.outcome import Outcome
from bsync.journal import Level
from bsync.report import level_of
from bsync.run import Beside, run

_GLANCE = 0.2  # seconds between two looks at the jobs that run


class Tell(Protocol):
    """What hears the lines of the jobs."""

    def __call__(self, line: str, /, *, level: Level = Level.INFO) -> None: ...


@dataclass
class _Running:
    """A job that has begun."""

    job: Job
    child: Beside
    began: float
    last: dict[str, Any] = field(default_factory=dict)  # how it ended, in its own words


def run_jobs(jobs: Sequence[Job], at_once: int, tell: Tell) -> list[Outcome]:
    """Run all of them, `at_once` at a time; `tell` hears their lines.  Returns how each ended, in
    the order in which they did."""
    waiting, running, ended = deque(jobs), list[_Running](), list[Outcome]()
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                _begin(waiting.popleft(), running, ended, tell)
            for one in list(running):
                _listen(one, tell)
                if (status := one.child.status()) is not None:
                    running.remove(one)
                    ended.append(_end(one, status, tell))
            time.sleep(_GLANCE if running else 0)
    finally:
        for one in running:
            one.child.ask_to_end()
        for one in running:
            one.child.close()
    return ended


def _begin(job: Job, running: list[_Running], ended: list[Outcome], tell: Tell) -> None:
    tell(f"{job.name}: {job.source} to {job.destination}")
    if trouble := _hook(job, "before", Status.DONE):
        ended.append(_failed(job, Outcome(job.name, Status.UNAVAILABLE, said=trouble), tell))
        return
    command, *words = job.words
    running.append(_Running(job, Beside(command, "--json", *words), time.monotonic()))


def _listen(one: _Running, tell: Tell) -> None:
    """Hand on what is worth a line."""
    for line in one.child.lines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        match event.get("event"):
            case "step-started":
                tell(f"{one.job.name}: {event.get('title')} ...")
            case "noticed":
                level = level_of(Notice(event["notice"]))
                tell(f"{one.job.name}: {event.get('text')}", level=level)
            case "finished" | "failed":
                one.last = event


def _end(one: _Running, status: int, tell: Tell) -> Outcome:
    _listen(one, tell)
    said, name = str(one.last.get("message") or ""), one.job.name
    if status and not said:
        said = next(iter(one.child.complaints()), "").removeprefix("bsync: ")
    one.child.close()
    outcome = Outcome(
        name, status, time.monotonic() - one.began, int(one.last.get("transferred") or 0),
        one.last.get("files", 0), said,
    )  # fmt: skip
    if trouble := _hook(one.job, "after", status):
        outcome = Outcome(name, status or Status.UNAVAILABLE, outcome.seconds,
                          outcome.transferred, outcome.files, said or trouble)  # fmt: skip
    if outcome.status:
        return _failed(one.job, outcome, tell)
    tell(f"{name}: {one.last.get('text') or 'done'}", level=Level.NOTICE)
    return outcome


def _failed(job: Job, outcome: Outcome, tell: Tell) -> Outcome:
    tell(f"{job.name}: failed: {outcome.said}", level=Level.ERROR)
    if trouble := _hook(job, "on-failure", outcome.status):
        tell(f"{job.name}: {trouble}", level=Level.ERROR)
    return outcome


def _hook(job: Job, when: str, status: int) -> str:
    """Have the shell do what is to be done now; why that failed, if it did."""
    if not (command := job.hook(when)):
        return ""
    about = (f"BSYNC_JOB={job.name}", f"BSYNC_STATUS={int(status)}")
    try:
        run("env", *about, "sh", "-c", command, failure=CopyFailed)
    except BsyncError as error:
        return f"{when}: {error.message}"
    return ""
