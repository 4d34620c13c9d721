# SPDX-License-Identifier: GPL-2.0-only
"""The control of this tier: what the machine says is what the host hears."""

from __future__ import annotations

from pathlib import Path

import pytest
from guest import CUT, TREE, GuestFailed, disk, run

MIB = 1 << 20
WRITE = """
import os, time
device = os.open("/dev/disk/by-id/virtio-disk0", os.O_RDWR)
os.pwrite(device, b"flushed", 0)
os.fsync(device)
os.pwrite(device, b"not yet", 4096)
print("power: off", flush=True)
time.sleep(1000)
"""


def test_status_output_and_results_are_handed_over(tmp_path: Path) -> None:
    command = "echo said; echo kept > /out/file; touch /src/scribble; exit 7"
    result = run(["sh", "-c", command], keep=tmp_path / "with, a comma")
    assert (result.status, result.output) == (7, "said\n")
    assert (tmp_path / "with, a comma/file").read_text() == "kept\n"
    assert not (TREE / "scribble").exists()


def test_a_power_cut_keeps_what_was_flushed_and_nothing_else(tmp_path: Path) -> None:
    """The power goes at once: what is only in the guest's memory is lost."""
    image = disk(tmp_path / "disk.img", MIB)
    result = run(["python3", "-c", WRITE], disks=[image], cut_power_at="power: off")
    assert result.status == CUT
    data = image.read_bytes()
    assert data[:7] == b"flushed"
    assert not data[4096:].strip(b"\0")


def test_a_dead_guest_is_a_failure_that_shows_the_console() -> None:
    with pytest.raises(GuestFailed, match="sysrq triggered crash"):
        run(["sh", "-c", "echo c > /proc/sysrq-trigger"])


def test_a_guest_that_does_not_end_is_ended() -> None:
    with pytest.raises(GuestFailed, match="no end within 20 s"):
        run(["sleep", "1000"], timeout=20)
