# SPDX-License-Identifier: GPL-2.0-only
"""Where bsync cannot look, or may not act, it says so, and takes that for no good sign."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

import pytest
from lab import MIB, Lab, call
from small_disks import bare

from bsync.acquire import locks
from bsync.errors import Unavailable


def test_an_immutable_destination(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    call("chattr", "+i", target)
    try:
        said = lab.bsync(source, target, status=4).err
    finally:
        call("chattr", "-i", target)
    assert "lsattr" in said
    assert "run as root" not in said


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_filesystem_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_descriptor: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "image"
    path.write_bytes(b"x")
    with path.open("r+b") as file, pytest.raises(Unavailable) as caught:
        locks.hold(file.fileno(), str(path), writable=True, wanted=True)
    assert str(path) in caught.value.message
    assert "locks" in caught.value.hint
