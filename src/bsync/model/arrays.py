# SPDX-License-Identifier: GPL-2.0-only
"""The arrays that tables on a disk are read into, many rows at once.  Pure."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]  # (n)
Flags = NDArray[np.bool_]  # (n)
Rows = NDArray[np.uint8]  # (n, bytes of a row)


def column(rows: Rows, offset: int, width: int) -> Numbers:
    """The little-endian number of `width` bytes at `offset` of every row."""
    piece = np.ascontiguousarray(rows[:, offset : offset + width])
    return np.asarray(piece.view(f"<u{width}")[:, 0].astype(np.int64))
