# SPDX-License-Identifier: GPL-2.0-only
"""Plans and layouts, as wide as the screen."""

from __future__ import annotations

import re
import subprocess

import builders
import pytest
from builders import dos, ext, part, side
from hypothesis import given, settings
from hypothesis import strategies as st

from bsync.model.layout import Disk, Extent, Side
from bsync.plan import Options, make_plan
from bsync.screen.layouts import bar, gaps, layout_text
from bsync.screen.plans import destroyed_lines, plan_lines
from bsync.screen.text import columns_of, meter
from bsync.screen.types import DOS, GPT, type_name
from bsync.units import Marked

GIB = 1 << 30


def test_a_bar_is_as_wide_as_its_shares() -> None:
    labels = [(Extent(0, 2 * GIB), "1 root"), (Extent(3 * GIB, GIB), "2 home")]
    assert bar(labels, 4 * GIB, 40) == "[1 root            ]          [2 home  ]"


def test_a_small_partition_has_its_number() -> None:
    labels = [(Extent(0, 1), "1 boot"), (Extent(1, 4 * GIB - 1), "2 root")]
    assert bar(labels, 4 * GIB, 20) == "[1][2 root         ]"


@given(builders.sides("here.img", sound=False), st.integers(40, 200))
@settings(max_examples=100)
def test_every_bar_fits(one: Side, width: int) -> None:
    if isinstance(one.layout, Disk):
        parts = [(p.extent, f"{p.number} x") for p in one.layout.table.partitions]
        assert columns_of(bar(parts, one.layout.size, width)) <= width


def test_gaps_larger_than_an_alignment_are_told() -> None:
    one = side(dos(part(1, 1, 32), part(2, 100, 28)))
    assert isinstance(one.layout, Disk)
    found = [(gap.start >> 20, gap.end >> 20) for gap in gaps(one.layout)]
    assert (33, 100) in found
    assert (0, 1) not in found
    assert "free" in layout_text(one)


def test_a_label_has_a_column_where_there_is_room() -> None:
    one = side(dos(part(1, 1, 32, ext(label="data")), part(2, 100, 28)))
    wide = layout_text(one, 120).splitlines()
    assert re.search(r"Contents +Label +Used +UUID$", wide[2])
    assert re.search(r" ext4 +data +\[", wide[3])
    narrow = layout_text(one, 58).splitlines()
    assert re.search(r' ext4 "data" +\[', narrow[3])
    assert all(columns_of(line) <= width for width in range(40, 130)
               for line in layout_text(one, width).splitlines()[2:])  # fmt: skip
    assert "Label" not in layout_text(side(dos(part(1, 1, 32, ext(label="")))), 120)


def test_the_bar_marks_what_is_destroyed() -> None:
    source = side(dos(part(1, 1, 32, ext(blocks=4096)), part(2, 40, 80, ext(blocks=16384))))
    other = ext(uuid="99999999-0000-4000-8000-000000000000", label="gone")
    there = side(dos(part(1, 1, 32, other), part(2, 40, 20), part(3, 70, 20, other)))
    plan = make_plan(source, there, Options())
    (before,) = (line for line in plan_lines(plan, 80) if line.startswith("before "))
    assert isinstance(before, Marked)
    red = [text for text, stands_out in before.parts() if stands_out]
    assert [text[:2] + text[-1] for text in red] == ["[1]", "[3]"]
    assert "".join(text for text, _ in before.parts()) == before


def test_sizes_old_and_new_and_what_is_destroyed() -> None:
    source = side(dos(part(1, 1, 32, ext(blocks=4096)), part(2, 40, 80, ext(blocks=16384))))
    there = builders.bare(ext(blocks=16384), size=100 << 20)
    plan = make_plan(source, there, Options())
    lines = plan_lines(plan, 80)
    assert max(map(columns_of, lines)) <= 80
    assert any(line.startswith("before [ext4") for line in lines)
    assert any(line.startswith("after  [1 ext4") for line in lines)
    assert any("shrinks from" in line for line in lines)
    assert destroyed_lines(plan, 80)[1] == "This will destroy:"


def test_a_meter() -> None:
    assert [meter(n, 8) for n in (0, 4, 8, 99)] == [
        "[..........]   0%", "[#####.....]  50%", "[##########] 100%", "[##########] 1237%",
    ]  # fmt: skip
    assert meter(1, 0) == "[..........]   0%"


@pytest.mark.parametrize(("label", "names"), [("gpt", GPT), ("dos", DOS)])
def test_types_have_the_names_that_fdisk_has(label: str, names: dict[str, str]) -> None:
    said = subprocess.run(
        ["sfdisk", "--list-types", "--label", label], capture_output=True, text=True, check=True
    ).stdout
    known = dict(line.strip().split(None, 1) for line in said.splitlines()[2:] if line.strip())
    assert (
        names.items()
        <= {key.upper() if label == "gpt" else key: known[key] for key in known}.items()
    )


def test_an_unknown_type_is_named_as_it_is() -> None:
    assert type_name("dos", "D9") == "type D9"
    assert type_name("gpt", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b") == "EFI System"
