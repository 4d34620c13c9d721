#!/usr/bin/env python3
"""Measure bsync and other ways to clone an ext4, side by side; print a report."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchlib.changes import ChangeCounts, changed_image
from benchlib.checks import CheckFailed, Comparison, check_clone
from benchlib.contenders import Action, Contender, Job, all_contenders
from benchlib.disks import (
    allocated_bytes,
    drop_caches,
    flush,
    locked,
    new_image,
    work_directory,
)
from benchlib.machine import describe
from benchlib.proc import CommandFailed, find_program, signals_as_exceptions
from benchlib.report import render, write_report
from benchlib.results import Case, Failure, Measurement, Results, Setting
from make_source import Summary, add_size_options, make_source, parameters_from

REPOSITORY = Path(__file__).resolve().parent.parent
BSYNC = REPOSITORY / ".venv/bin/bsync"
ROUNDS = 3
REQUIRED = ("losetup", "mount", "umount", "mkfs.ext4", "e2fsck", "findmnt", "find", "rsync")


@dataclass(frozen=True)
class Images:
    """The sources, and where the clone goes."""

    summary: Summary
    source: Path
    changed: Path
    target: Path
    scratch: Path

    def job(self, case: Case) -> Job:
        """What a contender has to clone in this case."""
        source = self.changed if case is Case.CHANGED else self.source
        return Job(source, self.target, self.scratch)


@dataclass(frozen=True)
class Checking:
    """Which clones are compared with their source, and how thoroughly."""

    all_rounds: bool
    contents: bool


class Benchmark:
    """Runs the contenders in turn and gathers what comes out."""

    def __init__(self, images: Images, results: Results, checking: Checking) -> None:
        self._images = images
        self._results = results
        self._checking = checking

    def turn(self, contender: Contender, number: int) -> None:
        """All of one contender's cases; a later case needs the clone of the one before."""
        new_image(self._images.target, self._images.source.stat().st_size)
        try:
            for case in Case:
                if not self._case(contender, case, number):
                    return
        finally:
            self._images.target.unlink(missing_ok=True)

    def _case(self, contender: Contender, case: Case, number: int) -> bool:
        action = contender.first if case is Case.FIRST else contender.again
        if action is None or (case is Case.CHANGED and contender.copies_all):
            return True
        label = f"{contender.name}, {case}"
        try:
            seconds, alone = self._measure(contender, action, case, number)
        except (CommandFailed, CheckFailed, OSError) as error:
            reason = _without_paths(str(error), self._images.scratch)
            self._results.failures.append(Failure(contender.name, case, number, reason))
            _say(f"  {label}: FAILED: {reason}")
            return False
        self._results.measurements.append(Measurement(contender.name, case, number, seconds, alone))
        _say(f"  {label}: {seconds:.2f} s")
        return True

    def _measure(
        self, contender: Contender, action: Action, case: Case, number: int
    ) -> tuple[float, float]:
        job = self._images.job(case)
        before = job.source.stat().st_mtime_ns
        times = _timed(action, job)
        if job.source.stat().st_mtime_ns != before:
            raise CheckFailed("it wrote to its source")
        if number == 1 or self._checking.all_rounds:
            comparison = Comparison(self._checking.contents, contender.tolerated)
            check_clone(job.source, job.target, job.scratch, comparison)
        return times


def main() -> int:
    """Run the benchmark; only failing contenders make it fail, no time does."""
    options = _options()
    signals_as_exceptions()
    work = work_directory()
    contenders = all_contenders(options.bsync)
    chosen = _chosen(contenders, options.contenders)
    with locked(work), _images(options, work) as images:
        results = Results(_setting(options, images, contenders, chosen))
        raw = work / f"results-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
        _rounds(images, results, chosen, options, raw)
    report = render(results, contenders)
    print(report, end="")
    _say(f"raw figures: {raw}")
    if options.output:
        write_report(options.output, report)
    return 1 if results.failures else 0


def _rounds(
    images: Images,
    results: Results,
    chosen: Sequence[Contender],
    options: argparse.Namespace,
    raw: Path,
) -> None:
    checking = Checking(options.check_all_rounds, options.deep_check or options.quick)
    benchmark = Benchmark(images, results, checking)
    for number in range(1, results.setting.rounds + 1):
        _say(f"round {number} of {results.setting.rounds}")
        for contender in chosen:
            if not contender.missing():
                benchmark.turn(contender, number)
            results.save(raw)  # Each time: hours of measuring must not be lost.


def _timed(action: Action, job: Job) -> tuple[float, float]:
    drop_caches()
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
def _images(options: argparse.Namespace, work: Path) -> Iterator[Images]:
    parameters = parameters_from(options)
    _say(f"making the source, unless it is cached in {work}")
    source = make_source(parameters, work)
    counts = ChangeCounts.of(parameters.files)
    changed = changed_image(source.image, counts, parameters.seed, work)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=work))
    try:
        _require_space(source.image, work)
        yield Images(source.summary, source.image, changed, scratch / "target.img", scratch)
    finally:
        _remove(scratch)


def _remove(scratch: Path) -> None:
    # Known files only, and directories only if empty: a mount left behind must stay untouched.
    for path in scratch.iterdir():
        if path.is_file():
            path.unlink()
    with contextlib.suppress(OSError):
        scratch.rmdir()


def _require_space(source: Path, work: Path) -> None:
    # dd fills the whole target, and fsarchiver needs room for an archive besides.
    needed = source.stat().st_size + allocated_bytes(source) * 5 // 4
    if shutil.disk_usage(work).free < needed:
        raise SystemExit(f"{work} needs {needed / 1e9:.1f} GB of free space")


def _setting(
    options: argparse.Namespace,
    images: Images,
    contenders: Sequence[Contender],
    chosen: Sequence[Contender],
) -> Setting:
    parameters = parameters_from(options)
    return Setting(
        machine=describe(images.source.parent, options.bsync),
        started=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        rounds=options.rounds or (1 if options.quick else ROUNDS),
        seed=parameters.seed,
        source=asdict(images.summary),
        changes=ChangeCounts.of(parameters.files),
        missing={each.name: each.missing() for each in contenders if each.missing()},
        skipped=tuple(each.name for each in contenders if each not in chosen),
    )


def _chosen(contenders: Sequence[Contender], wanted: str | None) -> list[Contender]:
    if wanted is None:
        return list(contenders)
    names = [name.strip() for name in wanted.split(",")]
    unknown = set(names) - {contender.name for contender in contenders}
    if unknown:
        known = ", ".join(contender.name for contender in contenders)
        raise SystemExit(f"unknown contender {', '.join(sorted(unknown))}; known: {known}")
    return [contender for contender in contenders if contender.name in names]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_size_options(parser)
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}, with --quick 1")
    parser.add_argument("--contenders", help="only these, by name, separated by commas")
    parser.add_argument("--bsync", default=str(BSYNC), help="the bsync to run")
    parser.add_argument("--output", type=Path, help="also write the report into this file")
    parser.add_argument("--check-all-rounds", action="store_true", help="not only the first")
    parser.add_argument("--deep-check", action="store_true", help="compare files' contents")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("only root can mount images")
    if missing := [program for program in REQUIRED if find_program(program) is None]:
        parser.error(f"missing programs: {', '.join(missing)}")
    return options


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
