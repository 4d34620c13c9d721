# SPDX-License-Identifier: GPL-2.0-only
"""What names a disk by every path, and what does not."""

from __future__ import annotations

import pytest

from bsync.acquire.identity import identity
from bsync.acquire.iscsi_query import wwid

LIO = "naa.6001405a1b2c3d4e5f60718293a4b5c6"


@pytest.mark.parametrize("name", [LIO, "naa.5000c500a1b2c3d4", "eui.0025385b71b00001", "uuid.17"])
def test_a_name_that_is_unique_in_the_world_is_the_disks(name: str) -> None:
    assert identity(name, "iqn.2004-10.a:b", 3) == identity(name.upper(), "iqn.2004-10.c:d") == name


@pytest.mark.parametrize(
    "name",
    ["", "t10.LIO-ORG ", "naa.60000000000000000e00000000010001", "naa.3000000100000001", "eui.00"],
)
def test_another_name_says_nothing_without_its_target(name: str) -> None:
    assert identity(name) == ""
    assert identity(name, "iqn.A:b", 1) == identity(name, "iqn.a:b", 1)
    assert len({identity(name, "iqn.a:b", 1), identity(name, "iqn.a:b", 2),
                identity(name, "iqn.a:c", 1)}) == 3  # fmt: skip


def test_the_best_name_is_the_one_that_the_kernel_takes() -> None:
    t10, three = (1, b"LIO-ORG x"), (3, bytes.fromhex("3000000100000001"))
    six, text = (3, bytes.fromhex(LIO[4:])), (8, b"iqn.2004-10.org.example:disk,L,0x01\0")
    assert wwid([]) == ""
    assert wwid([t10]) == "t10.LIO-ORG x"
    assert wwid([t10, three]) == "t10.LIO-ORG x"
    assert wwid([t10, three, six]) == LIO
    assert wwid([six, text]).startswith("iqn.2004")
    assert wwid([(2, bytes(7) + b"\1"), t10]) == "eui.0000000000000001"
