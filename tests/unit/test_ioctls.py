# SPDX-License-Identifier: GPL-2.0-only
"""Numbers of ioctl(2) requests, as the kernel's headers make them."""

from __future__ import annotations

import pytest

from bsync import ioctls


@pytest.mark.parametrize(
    ("machine", "nothing", "write", "read"),
    [
        ("x86_64", 0x00001261, 0x40086602, 0x80086601),
        ("aarch64", 0x00001261, 0x40086602, 0x80086601),
        ("ppc64le", 0x20001261, 0x80086602, 0x40086601),
        ("mips64", 0x20001261, 0x80086602, 0x40086601),
        ("sparc64", 0x20001261, 0x80086602, 0x40086601),
        ("parisc64", 0x00001261, 0x80086602, 0x40086601),
    ],
)
def test_other_architectures(machine: str, nothing: int, write: int, read: int) -> None:
    at, *directions = ioctls.layout(machine)
    numbers = [0x12 << 8 | 97, 8 << 16 | ord("f") << 8 | 2, 8 << 16 | ord("f") << 8 | 1]
    found = [way << at | number for way, number in zip(directions, numbers, strict=True)]
    assert found == [nothing, write, read]
