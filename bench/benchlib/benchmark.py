# SPDX-License-Identifier: GPL-2.0-only
"""One part of the benchmark: its contenders in turn, for one source after the other."""

from __future__ import annotations

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from benchlib.changes import ChangeCounts, changed_image
from benchlib.checks import CheckFailed, Comparison, check_clone
from benchlib.contenders import ARCHIVING, WHOLE, Action, Contender, Job
from benchlib.disks import allocated_bytes, flush, new_image, used_bytes
from benchlib.luns import LunFailed
from benchlib.machine import describe
from benchlib.memory import Memory
from benchlib.proc import CommandFailed
from benchlib.results import Case, Entry, Failure, Measurement, Results, Setting, Standing, save
from make_source import Parameters, Summary, make_source

REPOSITORY = Path(__file__).resolve().parents[2]

Serving = Callable[[Path], AbstractContextManager[str]]


def local(_image: Path) -> AbstractContextManager[str]:
    """A target that nobody serves: there is no locator."""
    return contextlib.nullcontext("")


@dataclass(frozen=True)
class Part:
    """What is to be measured together."""

    name: str
    sources: tuple[Parameters, ...]
    contenders: tuple[Contender, ...]
    cases: tuple[Case, ...] = tuple(Case)
    serving: Serving = local  # What makes the target image a LUN; gives its locator.
    memory: Memory = Memory.IN_USE


@dataclass(frozen=True)
class Conduct:
    """How all parts are run, as the command line says."""

    work: Path
    bsync: str
    rounds: int
    wanted: frozenset[str] | None  # Contenders; None: all.
    check_all_rounds: bool
    check_contents: bool

    def chosen(self, part: Part) -> list[Contender]:
        """The part's contenders that are to run."""
        return [c for c in part.contenders if self.wanted is None or c.name in self.wanted]

    def in_turn(self, part: Part, number: int) -> list[Contender]:
        """These for the round `number`, counted from 1.

        Every second round goes backwards: the disk may still be at what one of them wrote when
        the next begins.
        """
        return self.chosen(part)[:: -1 if number % 2 == 0 else 1]


@dataclass(frozen=True)
class Images:
    """The sources, and where the clone goes."""

    summary: Summary
    used_bytes: int  # The blocks that the source uses.
    source: Path
    changed: Path
    target: Path
    scratch: Path

    def job(self, case: Case) -> Job:
        """What a contender has to clone in this case; the last finds what the one before made."""
        source = self.source if case is Case.FIRST else self.changed
        return Job(source, self.used_bytes, self.target, self.scratch)


class Turns:
    """Runs one contender after the other and gathers what comes out."""

    def __init__(self, part: Part, images: Images, results: Results, conduct: Conduct) -> None:
        self._part = part
        self._images = images
        self._results = results
        self._conduct = conduct

    def turn(self, contender: Contender, number: int) -> None:
        """All of one contender's cases; a later case needs the clone of the one before."""
        new_image(self._images.target, self._images.source.stat().st_size)
        try:
            for case in self._part.cases:
                if not self._case(contender, case, number):
                    return
        finally:
            self._images.target.unlink(missing_ok=True)

    def _case(self, contender: Contender, case: Case, number: int) -> bool:
        action = contender.first if case is Case.FIRST else contender.again
        if action is None:
            return True
        label = f"{contender.name}, {case}"
        try:
            seconds, alone = self._measure(contender, action, case, number)
        except (CommandFailed, CheckFailed, LunFailed, OSError) as error:
            reason = _without_paths(str(error), self._images.scratch)
            self._results.failures.append(Failure(contender.name, case, number, reason))
            say(f"  {label}: FAILED: {reason}")
            return False
        self._results.measurements.append(Measurement(contender.name, case, number, seconds, alone))
        say(f"  {label}: {seconds:.2f} s")
        return True

    def _measure(
        self, contender: Contender, action: Action, case: Case, number: int
    ) -> tuple[float, float]:
        job = self._images.job(case)
        before = job.source.stat().st_mtime_ns
        with self._part.serving(job.target) as lun:
            self._part.memory.prepare(job.scratch)
            times = _timed(action, replace(job, lun=lun))
        if job.source.stat().st_mtime_ns != before:
            raise CheckFailed("it wrote to its source")
        is_clone = contender.standing is not Standing.YARDSTICK
        if is_clone and (number == 1 or self._conduct.check_all_rounds):
            comparison = Comparison(self._conduct.check_contents, contender.tolerated)
            check_clone(job.source, job.target, job.scratch, comparison)
        return times


def measure(part: Part, conduct: Conduct, unfinished: Path) -> list[Results]:
    """All rounds of a part, source after source; what is known is in `unfinished` at any time."""
    series: list[Results] = []
    for parameters in part.sources:
        with _images(part, parameters, conduct) as images:
            results = Results(_setting(part, parameters, images, conduct))
            series.append(results)
            for number in range(1, conduct.rounds + 1):
                say(f"{part.name}, {parameters.files} files: round {number} of {conduct.rounds}")
                for contender in conduct.in_turn(part, number):
                    if not contender.missing():
                        Turns(part, images, results, conduct).turn(contender, number)
                    save(series, unfinished)  # Each time: hours of measuring must not be lost.
    return series


def say(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(text, file=sys.stderr, flush=True)


def _timed(action: Action, job: Job) -> tuple[float, float]:
    start = time.perf_counter()
    alone = action(job)
    flush(job.target)
    return time.perf_counter() - start, alone


def _without_paths(text: str, scratch: Path) -> str:
    # The report is public; where this machine keeps things is not of interest.
    for path in (scratch, scratch.parent, REPOSITORY):
        text = text.replace(f"{path}/", "")
    return text


@contextlib.contextmanager
def _images(part: Part, parameters: Parameters, conduct: Conduct) -> Iterator[Images]:
    say(f"making the source of {parameters.files} files, unless it is cached in {conduct.work}")
    source = make_source(parameters, conduct.work)
    counts = ChangeCounts.of(parameters.files)
    changed = changed_image(source.image, counts, parameters.seed, conduct.work)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=conduct.work))
    try:
        _require_space(source.image, conduct.chosen(part), conduct.work)
        target = scratch / "target.img"
        used = used_bytes(source.image)
        yield Images(source.summary, used, source.image, changed, target, scratch)
    finally:
        _remove(scratch)


def _remove(scratch: Path) -> None:
    # Known files only, and directories only if empty: a mount left behind must stay untouched.
    for path in scratch.iterdir():
        if path.is_file():
            path.unlink()
    with contextlib.suppress(OSError):
        scratch.rmdir()


def _require_space(source: Path, chosen: Sequence[Contender], work: Path) -> None:
    names, used = {contender.name for contender in chosen}, allocated_bytes(source)
    target = source.stat().st_size if names & WHOLE else used
    archive = used if names & ARCHIVING else 0
    needed = target + archive + used // 4
    if shutil.disk_usage(work).free < needed:
        raise SystemExit(f"{work} needs {needed / 1e9:.1f} GB of free space")


def _setting(part: Part, parameters: Parameters, images: Images, conduct: Conduct) -> Setting:
    chosen = conduct.chosen(part)
    return Setting(
        machine=describe(conduct.work, conduct.bsync),
        started=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        rounds=conduct.rounds,
        seed=parameters.seed,
        source=asdict(images.summary),
        used_bytes=images.used_bytes,
        changes=ChangeCounts.of(parameters.files),
        cases=part.cases,
        entries=tuple(
            Entry(each.name, each.standing, each.note, each.again is None)
            for each in part.contenders
        ),
        missing={each.name: each.missing() for each in part.contenders if each.missing()},
        skipped=tuple(each.name for each in part.contenders if each not in chosen),
        memory=part.memory,
    )
