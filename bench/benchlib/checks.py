# SPDX-License-Identifier: GPL-2.0-only
"""Whether a clone is what its contender promises."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from benchlib.disks import attached, mounted_image
from benchlib.proc import run

COMPARE = ("rsync", "-aHAX", "--numeric-ids", "--delete", "--dry-run", "--itemize-changes")
SHOWN_DIFFERENCES = 10


class CheckFailed(Exception):
    """The clone is damaged or differs from its source."""


@dataclass(frozen=True)
class Comparison:
    """How thoroughly to compare, and which of rsync's lines not to count."""

    contents: bool
    tolerated: tuple[str, ...]


def check_clone(source: Path, target: Path, scratch: Path, comparison: Comparison) -> None:
    """Raise unless the clone is a clean file system with the source's tree."""
    with attached(target, read_only=True) as device:
        run(["e2fsck", "-f", "-n", device])
    with (
        mounted_image(source, scratch, read_only=True) as old,
        mounted_image(target, scratch, read_only=True) as new,
    ):
        _compare_counts(old, new)
        _compare_trees(old, new, comparison)


def _compare_counts(old: Path, new: Path) -> None:
    counts = [len(run(["find", root, "-xdev", "-printf", "."]).output) for root in (old, new)]
    if counts[0] != counts[1]:
        raise CheckFailed(f"the source has {counts[0]} files, the clone {counts[1]}")


def _compare_trees(old: Path, new: Path, comparison: Comparison) -> None:
    options = ("--checksum",) if comparison.contents else ()
    output = run([*COMPARE, *options, f"{old}/", f"{new}/"]).output
    lines = [line for line in output.splitlines() if line not in comparison.tolerated]
    if lines:
        shown = "\n".join(lines[:SHOWN_DIFFERENCES])
        raise CheckFailed(f"{len(lines)} differences, among them:\n{shown}")
