# SPDX-License-Identifier: GPL-2.0-only
"""What a failed comparison of images says.

pytest would look for the smallest difference of both, byte by byte, for hours.
"""

from __future__ import annotations

from typing import Any, cast

from _pytest.assertion import util

_LONG = 4096  # bytes

_explained = util.assertrepr_compare


def install() -> None:
    """Have the place and the sizes told, where long bytes differ."""
    util.assertrepr_compare = cast(Any, _explain)


def _explain(*, op: str, left: Any, right: Any, **others: Any) -> Any:
    both = isinstance(left, bytes | bytearray) and isinstance(right, bytes | bytearray)
    if not both or max(len(left), len(right)) < _LONG:
        return _explained(op=op, left=left, right=right, **others)
    pairs = enumerate(zip(left, right, strict=False))
    place = next((at for at, (one, other) in pairs if one != other), min(len(left), len(right)))
    seen = left[place : place + 16], right[place : place + 16]
    return [f"{len(left):,} bytes {op} {len(right):,} bytes, from byte {place:,} on: {seen}"]
