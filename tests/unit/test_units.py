# SPDX-License-Identifier: GPL-2.0-only
"""Sizes, read and written."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsync import units
from bsync.errors import Usage
from bsync.units import GIB, MIB, both_sizes, count_text, parse_size, size_text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (1023, "1023 bytes"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (100 * MIB, "100 MiB"),
        (GIB - 1, "1 GiB"),
        (12 * GIB + GIB // 2, "12.5 GiB"),
        ((1 << 63) - 1, "8 EiB"),
        (1 << 73, "8192 EiB"),
    ],
)
def test_size_text(count: int, text: str) -> None:
    assert size_text(count) == text


@given(st.integers(0, 1 << 62), st.integers(0, 1 << 62))
def test_a_greater_size_never_reads_smaller(one: int, other: int) -> None:
    def value(text: str) -> float:
        number, unit = text.split(" ")
        return float(number) * (1024.0 ** " KMGTPE".index(unit[0]) if unit[1:] == "iB" else 1)

    small, great = sorted((one, other))
    assert value(size_text(small)) <= value(size_text(great))


@given(st.integers(0, 1 << 62), st.integers(-2000, 2000))
def test_two_figures_differ_where_the_sizes_do(one: int, more: int) -> None:
    other = max(0, one + more)
    first, second = both_sizes(one, other)
    assert (first == second) == (one == other)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1", 1),
        ("1048576", MIB),
        ("512B", 512),
        ("10G", 10 * GIB),
        ("10g", 10 * GIB),
        ("10GiB", 10 * GIB),
        ("10GB", 10**10),
        ("1.5K", 1536),
        ("1.5kb", 1500),
        ("0.000001E", 1152921504606),
        ("4E", 1 << 62),
    ],
)
def test_parse_size(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize(
    "text",
    ["", "0", "0G", "-1", "1.5", "1.5B", "G", "1 G", "1X", "8E", "9" * 20, "1.G", "1e3", "0x10",
     "\u0663", "1\u212a", "1K\u0131B", "10G\n"],
)  # fmt: skip
def test_what_is_not_a_size(text: str) -> None:
    with pytest.raises(Usage):
        parse_size(text)


@given(st.one_of(st.text(), st.from_regex(r"[0-9.]{1,17}[kKmMgGtTpPeE]?i?[bB]?", fullmatch=True)))
def test_any_text_is_a_size_or_wrong_usage(text: str) -> None:
    with contextlib.suppress(Usage):
        assert 0 < parse_size(text) < 1 << 63


def test_count_text() -> None:
    assert count_text(0, "file") == "0 files"
    assert count_text(1, "file") == "1 file"
    assert count_text(1234, "file") == "1,234 files"


@pytest.mark.parametrize(
    ("text", "share", "of_1000"),
    [("20%", units.Share(percent=20), 200), ("2.5%", units.Share(percent=2.5), 25),
     ("100%", units.Share(percent=100), 1000), ("1K", units.Share(1024), 1024)],
)  # fmt: skip
def test_shares(text: str, share: units.Share, of_1000: int) -> None:
    assert units.parse_share(text) == share
    assert share.of(1000) == of_1000
    assert units.USUAL.of(1000) == 0


@pytest.mark.parametrize("text", ["0%", "101%", "%", "-1%", "1e1%", "20 %", "", "x"])
def test_no_shares(text: str) -> None:
    with pytest.raises(Usage):
        units.parse_share(text)
