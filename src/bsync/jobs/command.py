# SPDX-License-Identifier: GPL-2.0-only
"""What `bsync jobs` and `bsync run` do."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from bsync.deferred import listening
from bsync.errors import Usage
from bsync.jobs import jobfile, metrics, outcome, runner
from bsync.jobs.jobfile import Check, Job
from bsync.journal import Level
from bsync.say import say
from bsync.units import count_text


def jobs_of(file: str, options: Mapping[str, bool], check: Check) -> list[Job]:
    """The jobs of a file without mistakes; each mistake is said in a line.

    Raises `Usage`, `Unavailable`.
    """
    found, faults = jobfile.read(file, options, check)
    if faults:
        say(*faults, error=True, level=Level.ERROR)
        raise Usage(f"{file}: {count_text(len(faults), 'mistake')}", "no job was run")
    if not found:
        raise Usage(f"{file} has no jobs", "[job.NAME] begins one; see man bsync")
    return found


def show(jobs: Sequence[Job], *, only_check: bool, file: str) -> None:
    """A line for each job."""
    if only_check:
        say(f"{file}: {count_text(len(jobs), 'job')}, no mistakes")
        return
    for job in jobs:
        groups = f" ({', '.join(sorted(job.groups))})" if job.groups else ""
        say(f"{job.name}{groups}: {job.source} to {job.destination}")


def run(
    jobs: Sequence[Job], names: Sequence[str], everything: bool, at_once: int, file: str
) -> int:
    """Run those that are meant, and tell how they ended; `file` is that of the metrics, if any.
    Returns the worst of their exit statuses.  Raises `Usage`, `Unavailable`."""
    wanted = list(jobs) if everything else _chosen(jobs, names)
    with listening():
        ended = runner.run_jobs(wanted, at_once, say)
    say("", *outcome.table(ended))
    if file:
        metrics.write(file, ended, time.time())
    return outcome.worst(ended)


def _chosen(jobs: Sequence[Job], names: Sequence[str]) -> list[Job]:
    """Those with one of the names, or in a group of such a name."""
    if not names:
        raise Usage("no job was named", "bsync jobs shows them; --all runs them all")
    known = {job.name for job in jobs} | {group for job in jobs for group in job.groups}
    for name in names:
        if name not in known:
            raise Usage(f"there is no job or group {name}", "bsync jobs shows them")
    return [job for job in jobs if job.name in names or job.groups.intersection(names)]
