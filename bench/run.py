#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Measure bsync and other ways to clone an ext4, side by side; write a report.

The parts can be run one by one: what each found is kept, and the report is made of the latest
of each.
"""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchlib.benchmark import REPOSITORY, Conduct, Part, measure, say
from benchlib.contenders import (
    BSYNC,
    RSYNC_PLAIN,
    files_contenders,
    lun_contenders,
    main_contenders,
)
from benchlib.disks import locked, work_directory
from benchlib.luns import serving
from benchlib.memory import Memory
from benchlib.proc import find_program, signals_as_exceptions
from benchlib.report import FILES, GROWTH, ISCSI, MAIN, RESTED, plot, render, write_report
from benchlib.results import Case, Results, latest, load
from make_source import Parameters, add_size_options, parameters_from

PROGRAM = REPOSITORY / ".venv/bin/bsync"
ROUNDS = 3
PARTS = (MAIN, RESTED, FILES, GROWTH, ISCSI)
GROWTH_FILES = (10_000, 100_000, 1_000_000)
QUICK_GROWTH_FILES = (500, 1_000, 5_000)
MEAN_SMALL_FILE = 4096  # bytes
REQUIRED = ("losetup", "mount", "umount", "mkfs.ext4", "e2fsck", "dumpe2fs", "findmnt", "find",
            "rsync")  # fmt: skip


def main() -> int:
    """Run the benchmark; only failing contenders make it fail, no time does."""
    options = _options()
    signals_as_exceptions()
    work = work_directory()
    parts = _parts(options)
    conduct = Conduct(
        work,
        options.bsync,
        options.rounds or (1 if options.quick else ROUNDS),
        _wanted(parts, options.contenders),
        options.check_all_rounds,
        options.deep_check or options.quick,
    )
    failed = False
    with locked(work):
        for part in parts:
            if part.name in options.parts and conduct.chosen(part):
                failed |= _measured(part, conduct, _stem(part.name, options))
    _report(work, options)
    return 1 if failed else 0


def _measured(part: Part, conduct: Conduct, stem: str) -> bool:
    """Measure and keep what comes out; whether any contender failed."""
    kept = conduct.work / f"{stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    unfinished = kept.with_suffix(".unfinished")
    series = measure(part, conduct, unfinished)
    unfinished.rename(kept)
    say(f"raw figures: {kept}")
    return any(results.failures for results in series)


def _report(work: Path, options: argparse.Namespace) -> None:
    parts: dict[str, list[Results]] = {}
    for name in PARTS:
        if kept := latest(work, _stem(name, options)):
            parts[name] = load(kept)
    picture = options.output.with_suffix(".svg") if options.output else Path("benchmarks.svg")
    report = render(parts, picture.name)
    print(report, end="")
    if options.output:
        write_report(options.output, report)
        if drawing := plot(parts[GROWTH]) if GROWTH in parts else "":
            picture.write_text(drawing)


def _stem(part: str, options: argparse.Namespace) -> str:
    # Quick figures are no figures: they must not get in the place of real ones.
    return f"{'quick' if options.quick else 'results'}-{part}"


def _parts(options: argparse.Namespace) -> tuple[Part, ...]:
    source, contenders = parameters_from(options), main_contenders(options.bsync)
    small = tuple(
        Parameters(files, files * MEAN_SMALL_FILE, source.seed, large=False)
        for files in options.growth or (QUICK_GROWTH_FILES if options.quick else GROWTH_FILES)
    )
    two = tuple(each for each in contenders if each.name in (BSYNC, RSYNC_PLAIN))
    over_iscsi = lun_contenders(options.bsync)
    return (
        Part(MAIN, (source,), contenders),
        Part(RESTED, (source,), contenders, (Case.FIRST,), memory=Memory.GIVEN_BACK),
        Part(FILES, (source,), files_contenders(options.bsync)),
        Part(GROWTH, small, two),
        Part(ISCSI, (source,), over_iscsi, serving=serving),
    )


def _wanted(parts: tuple[Part, ...], text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    names = frozenset(name.strip() for name in text.split(","))
    known = list(dict.fromkeys(each.name for part in parts for each in part.contenders))
    if unknown := names - set(known):
        raise SystemExit(
            f"unknown contender {', '.join(sorted(unknown))}; known: {', '.join(known)}"
        )
    return names


def _part_names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if unknown := set(names) - set(PARTS):
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}; known: {','.join(PARTS)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(","))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_size_options(parser)
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}, with --quick 1")
    parser.add_argument("--contenders", help="only these, by name, separated by commas")
    parser.add_argument(
        "--parts", type=_part_names, default=PARTS,
        help=f"only these of {','.join(PARTS)}; an empty word: none, write the report only",
    )  # fmt: skip
    parser.add_argument("--growth", type=_numbers, help="numbers of files, separated by commas")
    parser.add_argument("--bsync", default=str(PROGRAM), help="the bsync to run")
    parser.add_argument("--output", type=Path, help="also write the report into this file")
    parser.add_argument("--check-all-rounds", action="store_true", help="not only the first")
    parser.add_argument("--deep-check", action="store_true", help="compare files' contents")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("only root can mount images")
    if missing := [program for program in REQUIRED if find_program(program) is None]:
        parser.error(f"missing programs: {', '.join(missing)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
