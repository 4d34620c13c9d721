# SPDX-License-Identifier: GPL-2.0-only
"""The control of this tier: what it boots does boot, and what cannot is told apart."""

from pathlib import Path

import pytest
from debian_disk import HOME, MARKER, ROOT, debian_disk
from machine import BootFailed, boot, console


def test_the_debian_disk_boots() -> None:
    text = boot(debian_disk())
    assert f"{MARKER} root={ROOT.uuid} home={HOME.uuid} swap=yes\n" in text


def test_a_blank_disk_is_refused_by_the_firmware(tmp_path: Path) -> None:
    blank = tmp_path / "blank, and with a comma.img"
    blank.write_bytes(bytes(1 << 20))
    assert "SeaBIOS" in console(blank, until="No bootable device")


def test_a_missing_text_is_a_failure_that_shows_the_console(tmp_path: Path) -> None:
    blank = tmp_path / "blank.img"
    blank.write_bytes(bytes(1 << 20))
    with pytest.raises(BootFailed, match="No bootable device"):
        boot(blank, timeout=3)


def test_a_complaint_of_the_emulator_is_shown(tmp_path: Path) -> None:
    with pytest.raises(BootFailed, match="No such file"):
        boot(tmp_path / "absent.img")
