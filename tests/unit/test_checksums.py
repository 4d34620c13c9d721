# SPDX-License-Identifier: GPL-2.0-only
"""Checksums of many rows, beside those of each by itself."""

from __future__ import annotations

import numpy as np
import pytest

from bsync.filesystems.ext.checksums import crc32c_rows
from bsync.filesystems.ext.superblock import crc32c


@pytest.mark.parametrize("length", [1, 2, 3, 64, 100, 1024])
def test_every_row_has_its_own(length: int) -> None:
    rows = np.random.default_rng(length).integers(0, 256, (3, length), np.uint8)
    expected = [crc32c(0x12345678, row.tobytes()) for row in rows]
    assert crc32c_rows(0x12345678, rows).tolist() == expected


def test_a_known_one() -> None:
    """RFC 3720, B.4: 32 bytes of zeroes, whose sum is inverted at the end there."""
    assert crc32c_rows(0xFFFFFFFF, np.zeros((1, 32), np.uint8))[0] ^ 0xFFFFFFFF == 0x8A9136AA
