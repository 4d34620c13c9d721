# SPDX-License-Identifier: GPL-2.0-only
"""Sizes as people read and write them.  Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from bsync.errors import Usage

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
_BINARY = "KMGTPE"


def size_text(count: int) -> str:
    """`count` bytes with a binary unit: 512 bytes, 1.5 KiB, 12 GiB."""
    if count < KIB:
        return f"{count} byte{'' if count == 1 else 's'}"
    value, power = count / 1024, 0
    while value >= 1023.95 and power < len(_BINARY) - 1:
        value, power = value / 1024, power + 1
    text = f"{value:.1f}" if value < 100 else f"{value:.0f}"
    return f"{text.removesuffix('.0')} {_BINARY[power]}iB"


def both_sizes(first: int, second: int) -> tuple[str, str]:
    """Two sizes, exact where rounding would make two different ones read the same."""
    texts = size_text(first), size_text(second)
    if texts[0] == texts[1] and first != second:
        return f"{first} bytes", f"{second} bytes"
    return texts


def parse_size(text: str) -> int:
    """Bytes out of 1048576, 10G, 1.5T (binary), 10GB (decimal), 512MiB.  Raises `Usage`."""
    match = re.fullmatch(
        r"([0-9]{1,15})(\.[0-9]{1,6})?(?:([KMGTPE])(i?B)?|B)?", text, re.IGNORECASE | re.ASCII
    )
    if match is None or (match[2] and not match[3]):
        raise Usage(f"{text!r} is not a size", "write bytes, or a number with K, M, G or T")
    base = 1000 if match[4] and match[4].upper() == "B" else 1024
    power = _BINARY.index(match[3].upper()) + 1 if match[3] else 0
    factor: int = base**power
    size = int(match[1]) * factor + int(float(match[2] or 0) * factor)
    if not 0 < size < 1 << 63:
        raise Usage(f"{text!r} is out of range for a size")
    return size


@dataclass(frozen=True)
class Share:
    """So many bytes, or such a share of something else; neither: whatever is usual."""

    size: int = 0
    percent: float = 0

    def of(self, whole: int) -> int:
        """The bytes, where the whole has `whole`; 0: whatever is usual."""
        return self.size or round(whole * self.percent / 100)


USUAL = Share()


def parse_share(text: str) -> Share:
    """A size as `parse_size` reads it, or a per cent: 20%, 2.5%.  Raises `Usage`."""
    if not text.endswith("%"):
        return Share(parse_size(text))
    match = re.fullmatch(r"([0-9]{1,3}(\.[0-9]{1,3})?)%", text, re.ASCII)
    if match is None or not 0 < float(match[1]) <= 100:
        raise Usage(f"{text!r} is not a share", "write a number up to 100, as in 20%")
    return Share(percent=float(match[1]))


def count_text(number: int, noun: str) -> str:
    """`1 file`, `2 files`, `1,234 files`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def printable(text: str) -> str:
    """`text` in one line, with escapes for what a terminal would obey or not show."""
    return "".join(c if c.isprintable() else _escaped(c) for c in text)


class Marked(str):
    """A printable line of which some parts are to stand out: where these begin and end."""

    marks: tuple[tuple[int, int], ...]

    def __new__(cls, text: str, marks: Iterable[tuple[int, int]] = ()) -> Self:
        line = super().__new__(cls, text)
        line.marks = tuple(marks)
        return line

    def after(self, text: str) -> Marked:
        """The same line with `text` before it."""
        far = len(text)
        return Marked(text + self, ((begin + far, end + far) for begin, end in self.marks))

    def parts(self) -> Iterator[tuple[str, bool]]:
        """The line in pieces, and whether they are to stand out."""
        at = 0
        for begin, end in self.marks:
            yield from ((self[at:begin], False), (self[begin:end], True))
            at = end
        yield self[at:], False


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
