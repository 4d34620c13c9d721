# SPDX-License-Identifier: GPL-2.0-only
"""The benchmark's pure code: what is kept, what the report says of it, and the picture."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchlib.changes import ChangeCounts
from benchlib.chart import Panel, draw
from benchlib.direct_copy import PIECE, copy
from benchlib.machine import Machine
from benchlib.memory import Memory
from benchlib.report import GROWTH, MAIN, plot, render, write_report
from benchlib.results import (
    Case,
    Entry,
    Failure,
    Measurement,
    Results,
    Setting,
    Standing,
    latest,
    load,
    save,
)
from make_source import LARGE_SHARES, Parameters, file_sizes

MACHINE = Machine("some processor", 2, 4.0, "Linux", "ext4", "3.11", {"bsync": "1"})
ENTRIES = (
    Entry("bsync", Standing.OURS, "", copies_all=False),
    Entry("plain direct copy", Standing.YARDSTICK, "", copies_all=True),
    Entry("rsync -aHAX", Standing.OTHER, "", copies_all=False),
    Entry("partclone.ext4", Standing.OTHER, "", copies_all=True),
)
TIMES = {"bsync": 10.0, "plain direct copy": 9.0, "rsync -aHAX": 90.0, "partclone.ext4": 25.0}


def results(files: int = 1000) -> Results:
    """Three rounds of each contender's first clone, and one of what comes after it."""
    source = dict.fromkeys(("directories", "hard_links", "symlinks", "data_bytes"), 1)
    setting = Setting(
        MACHINE, "2026-01-01 00:00 UTC", 3, 1, {**source, "files": files, "image_bytes": 1},
        5_000_000_000, ChangeCounts(3, 2, 1), tuple(Case), ENTRIES, {}, (),
    )  # fmt: skip
    found = Results(setting)
    for name, seconds in TIMES.items():
        for number, factor in enumerate((1.0, 0.5, 5.0), 1):
            time = seconds * factor
            found.measurements.append(Measurement(name, Case.FIRST, number, time, time))
    for name in ("bsync", "rsync -aHAX"):
        found.measurements.append(Measurement(name, Case.CHANGED, 1, TIMES[name] / 10, 1.0))
    return found


def test_what_is_kept_is_what_was_found(tmp_path: Path) -> None:
    found = results()
    found.failures.append(Failure("bsync", Case.UNCHANGED, 1, "why"))
    save([found], tmp_path / "results-main-1.json")
    assert load(tmp_path / "results-main-1.json") == [found]


def test_the_state_of_the_memory_is_kept_and_said(tmp_path: Path) -> None:
    found = results()
    assert "memory: as the run before left it" in render({MAIN: [found]}, "x.svg")
    found.setting = replace(found.setting, memory=Memory.GIVEN_BACK)
    save([found], tmp_path / "results-rested-1.json")
    assert load(tmp_path / "results-rested-1.json") == [found]
    assert "memory: given back" in render({MAIN: [found]}, "x.svg")


def test_the_latest_figures_of_a_part_are_taken(tmp_path: Path) -> None:
    assert latest(tmp_path, "results-main") is None
    for name in ("results-main-2.json", "results-main-1.json", "results-main-3.unfinished",
                 "quick-main-4.json", "results-growth-5.json"):  # fmt: skip
        (tmp_path / name).touch()
    assert latest(tmp_path, "results-main") == tmp_path / "results-main-2.json"


def test_ratios_are_those_of_medians() -> None:
    report = render({MAIN: [results()]}, "p.svg")
    assert "| bsync | 10.00 (5.00 to 50.00) | 0.50 | 0.11 | 0.40 | 1.11 |" in report
    assert "first clone: 9.0 times as fast as rsync -aHAX" in report
    assert "first clone: 2.5 times as fast as the best other, partclone.ext4" in report
    assert "first clone: 90% of the rate of the plain direct copy" in report


def test_a_yardstick_is_not_the_best_other() -> None:
    assert results().best_other(Case.FIRST) == "partclone.ext4"
    assert results().best_other(Case.UNCHANGED) is None


def test_times_of_a_failed_contender_are_not_shown() -> None:
    found = results()
    found.failures.append(Failure("partclone.ext4", Case.FIRST, 2, "it\nbroke"))
    assert found.best_other(Case.FIRST) == "rsync -aHAX"
    report = render({MAIN: [found]}, "p.svg")
    assert "| partclone.ext4 | failed |" in report
    assert "FAILED: partclone.ext4, first clone, round 2: it / broke" in report


def test_growth_has_a_row_for_each_size_and_a_picture() -> None:
    series = [results(1000), results(20_000)]
    report = render({GROWTH: series}, "p.svg")
    assert "(p.svg)" in report
    assert "| 20,000 files | 10.00 |" in report
    drawing = ElementTree.fromstring(plot(series))
    circles = [each for each in drawing.iter() if each.tag.endswith("circle")]
    assert len(circles) == 2 * (len(TIMES) + 2)


def test_no_picture_of_nothing() -> None:
    found = results()
    found.measurements.clear()
    assert plot([found]) == ""
    with pytest.raises(ValueError, match="nothing"):
        draw([Panel("empty", {})], "x", "y")


def test_a_line_of_the_picture_rises_with_its_values() -> None:
    drawing = ElementTree.fromstring(draw([Panel("p", {"a": [(10, 1), (1000, 50)]})], "x", "y"))
    low, high = (each for each in drawing.iter() if each.tag.endswith("circle"))
    assert float(high.attrib["cx"]) > float(low.attrib["cx"])
    assert float(high.attrib["cy"]) < float(low.attrib["cy"])  # Pixels count downwards.


def test_only_what_is_between_the_markers_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    path.write_text("# Mine\n\nbefore\n")
    write_report(path, "old\n")
    path.write_text(path.read_text() + "after\n")
    write_report(path, "new\n")
    text = path.read_text()
    assert "old" not in text
    assert [word for word in ("before", "new", "after") if word in text] == [
        "before",
        "new",
        "after",
    ]


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """A folder that is no tmpfs, which has no direct I/O on older kernels."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        yield Path(folder)


def test_the_plain_copy_copies_data_and_leaves_holes_out(on_disk: Path) -> None:
    source, target = on_disk / "source", on_disk / "target"
    data = random.Random(1).randbytes(PIECE)
    with source.open("wb") as file:
        file.write(data)
        file.seek(4 * PIECE)
        file.write(data[::-1])
    target.write_bytes(b"")
    assert copy(source, target, 2 * PIECE) == 2 * PIECE
    copied = target.read_bytes()
    assert copied[:PIECE] == data
    assert copied[4 * PIECE :] == data[::-1]
    assert target.stat().st_blocks * 512 < 3 * PIECE


def test_the_plain_copy_ends_when_it_has_enough(on_disk: Path) -> None:
    source, target = on_disk / "source", on_disk / "target"
    source.write_bytes(bytes(3 * PIECE))
    target.write_bytes(b"")
    assert copy(source, target, PIECE + 1) == 2 * PIECE


@pytest.mark.parametrize("large", [True, False])
def test_a_source_has_the_bytes_that_it_should(large: bool) -> None:
    parameters = Parameters(1000, 4_096_000, 1, large)
    sizes = file_sizes(parameters, random.Random(1))
    assert len(sizes) == 1000
    assert abs(sum(sizes) - 4_096_000) <= 1000
    assert (int(4_096_000 * LARGE_SHARES[0]) in sizes) == large
