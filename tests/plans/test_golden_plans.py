# SPDX-License-Identifier: GPL-2.0-only
"""Captured descriptions of disks in, the text of the plan out.

`BSYNC_REGOLD=1` writes the golden texts again; the difference is then for review.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from captured import Captured, Recorder, captured, recorder
from recipes import RECIPES

from bsync.errors import BsyncError
from bsync.model.layout import Side
from bsync.plan import Options, make_plan
from bsync.screen.layouts import layout_text
from bsync.screen.plans import plan_text
from bsync.survey import filesystem, survey, table

GOLDEN = Path(__file__).parent / "golden"

# name: source, destination, options
SITUATIONS: dict[str, tuple[str, str, Options]] = {
    "blank-destination": ("debian", "blank-16g", Options()),
    "compatible-layout": ("debian", "roomy", Options()),
    "synchronise": ("debian", "debian", Options()),
    "synchronise-by-checksum": ("bare", "bare", Options(checksum=True)),
    "smaller-disk-fitted": ("debian", "blank-4g", Options()),
    "smaller-disk-refused": ("debian", "blank-1g", Options()),
    "whole-table-replaced": ("debian", "gpt", Options()),
    "smaller-gpt-refused": ("gpt", "blank-1g", Options()),
    "table-over-a-filesystem": ("gpt", "bare", Options()),
    "foreign-refused": ("encrypted", "blank-16g", Options()),
    "foreign-raw": ("encrypted", "blank-16g", Options(raw=True)),
    "foreign-raw-into-a-table": ("encrypted", "roomy", Options(raw=True)),
    "everything-raw": ("debian", "debian", Options(engine="raw")),
    "swap": ("only-swap", "blank-1g", Options()),
    "swap-again": ("only-swap", "only-swap", Options()),
    "swap-asleep-refused": ("asleep", "blank-1g", Options()),
    "gpt": ("gpt", "blank-16g", Options()),
    "gpt-again": ("gpt", "gpt", Options()),
    "bare-to-bare": ("bare", "blank-4g", Options()),
    "bare-to-bare-by-files": ("bare", "blank-4g", Options("files")),
    "synchronise-by-files": ("debian", "debian", Options("files")),
    "unfinished-resumed-by-files": ("bare", "unfinished", Options("files")),
    "grown-as-it-is": ("bare", "blank-4g", Options(grow=False)),
    "bare-to-smaller": ("bare", "blank-1g", Options()),
    "bare-over-a-table": ("bare", "debian", Options()),
    "unfinished-resumed": ("bare", "unfinished", Options()),
    "unfinished-source-refused": ("unfinished", "blank-16g", Options()),
    "emptied-source": ("bare", "mirror-full", Options()),
    "journal-to-recover-refused": ("dirty", "blank-4g", Options()),
    "cut-short-refused": ("cut-short", "blank-4g", Options()),
    "damaged-table-refused": ("overlapping", "blank-16g", Options()),
    "over-a-damaged-table": ("bare", "overlapping", Options()),
    "xfs": ("xfs", "blank-4g", Options()),
    "xfs-again": ("xfs", "xfs", Options()),
    "xfs-unclean-refused": ("xfs-unclean", "blank-4g", Options()),
    "xfs-raw-unclean": ("xfs-unclean", "blank-4g", Options(raw=True)),
    "reiser": ("reiser", "blank-1g", Options()),
    "reiser-again": ("reiser", "reiser", Options()),
    "reiser-unfinished-resumed": ("reiser", "reiser-unfinished", Options()),
    "reiser-over-ext": ("reiser", "bare", Options()),
    "reiser-journal-refused": ("reiser-mounted", "blank-1g", Options()),
    "reiser-old-refused": ("reiser-old", "blank-1g", Options()),
    "blank-source-refused": ("blank-1g", "blank-4g", Options()),
}  # fmt: skip


def surveyed(
    monkeypatch: pytest.MonkeyPatch, device: Captured | Recorder, beside: Side | None = None
) -> Side:
    """What a survey makes of the device, with its answers in the place of the tools'."""
    for module in (table, filesystem):
        monkeypatch.setattr(module, "run", device.run)
    return survey(device, beside.layout if beside else None)


def planned(monkeypatch: pytest.MonkeyPatch, name: str) -> str:
    """The plan, or what is refused, as the user reads it."""
    here, there, options = SITUATIONS[name]
    source = surveyed(monkeypatch, captured(here, f"{here}.img"))
    destination = surveyed(monkeypatch, captured(there, f"{there}.img"), source)
    try:
        return plan_text(make_plan(source, destination, options)) + "\n"
    except BsyncError as error:
        return f"status {error.status}: {error.message}\n{error.hint}\n"


def same_as_golden(text: str, name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("BSYNC_REGOLD"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", SITUATIONS)
def test_the_plan_reads_as_before(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    same_as_golden(planned(monkeypatch, name), name)


@pytest.mark.parametrize("name", RECIPES)
def test_the_device_reads_as_before(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    side = surveyed(monkeypatch, captured(name, f"{name}.img"))
    same_as_golden(layout_text(side) + "\n", f"device-{name}")


def test_no_golden_text_is_left_over() -> None:
    known = {*SITUATIONS, *(f"device-{name}" for name in RECIPES)}
    assert {path.stem for path in GOLDEN.glob("*.txt")} == known


@pytest.mark.parametrize("name", RECIPES)
def test_the_tools_still_say_what_was_captured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    """The captures are not fiction: today's tools on a new image lead to the same survey."""
    image = tmp_path / "image"
    RECIPES[name](image)
    device = recorder(image)
    try:
        seen = layout_text(surveyed(monkeypatch, device))
    finally:
        os.close(device.descriptor)
        image.unlink()
    if os.environ.get("BSYNC_RECAPTURE"):
        device.seen.save(name)
    before = layout_text(surveyed(monkeypatch, captured(name, "image")))
    assert seen == before
