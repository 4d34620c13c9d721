# SPDX-License-Identifier: GPL-2.0-only
"""CRC-32C of many rows of bytes at once.  Pure: arrays in, arrays out.

A checksum is linear: that of two pieces is the first one's, led past as many zeroes as the second
has bytes, by exclusive or with the second one's.  So it takes as many steps as the length has bits.
"""

from __future__ import annotations

import numpy as np

from bsync.filesystems.ext.superblock import CRC_TABLE, crc32c
from bsync.model.arrays import Numbers, Rows

_BYTES = np.arange(4)[:, None] * 8  # where each byte of a number begins


def crc32c_rows(seed: int, rows: Rows) -> Numbers:
    """The CRC-32C, as ext4 uses it, of every row of (n, length) bytes, begun with `seed`."""
    length = rows.shape[1]
    missing = (1 << (length - 1).bit_length()) - length  # zeroes before all else change nothing
    table = np.array(CRC_TABLE, np.int64)
    sums = table[np.pad(rows, ((0, 0), (missing, 0)))]
    one = np.arange(256) << _BYTES
    past = table[one & 0xFF] ^ one >> 8  # what every value of every byte becomes past one zero
    while sums.shape[1] > 1:
        sums = _past(past, sums[:, 0::2]) ^ sums[:, 1::2]
        past = _past(past, past)
    return np.asarray(sums[:, 0] ^ crc32c(seed, bytes(length)))


def _past(zeroes: Numbers, sums: Numbers) -> Numbers:
    """What `sums` become past some `zeroes`."""
    return np.asarray(
        zeroes[0][sums & 0xFF]
        ^ zeroes[1][sums >> 8 & 0xFF]
        ^ zeroes[2][sums >> 16 & 0xFF]
        ^ zeroes[3][sums >> 24]
    )
