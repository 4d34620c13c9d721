# SPDX-License-Identifier: GPL-2.0-only
"""A clone by files loses its mark last, and only once it is known to be sound."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from aftermath import contents, inspect
from lab import KIB, MIB, Lab, call

pytestmark = pytest.mark.engine("files")

LABEL = "bsync-incomplete"


def filled(lab: Lab, *make: str) -> Path:
    """A source of 20 files of 100 kB."""
    image = lab.image("source.img", 16 * MIB)
    call("mke2fs", "-q", "-F", *make, image)
    with lab.mounted(image) as root:
        for number in range(20):
            (root / f"file{number}").write_bytes(os.urandom(100_000))
    return image


def test_a_clone_that_is_not_sound_stays_marked(lab: Lab) -> None:
    """Something lost between the last flush and the unmount: here, the root directory."""
    source = filled(lab, "-t", "ext4", "-b", "1024")
    target = lab.image("target.img", 16 * MIB)
    blocks = call("debugfs", "-R", "blocks /lost+found", source).split()
    lab.stand_in("e2fsck", f"dd if=/dev/zero of={target} bs={KIB} seek={blocks[0]} count=1"
                 " conv=notrunc status=none", when="-f -n")  # fmt: skip
    run = lab.bsync("--yes", source, target, status=5)
    assert "damaged" in run.err
    assert contents(inspect(lab, target))[0]["label"] == LABEL


def test_a_mark_that_could_not_be_taken_away_whole_comes_back(lab: Lab) -> None:
    source = filled(lab, "-t", "ext4", "-L", "data")
    target = lab.image("target.img", 16 * MIB)
    lab.stand_in("tune2fs", 'shift 1; /usr/sbin/tune2fs -L "$@"; exit 1', when="-L data")
    lab.bsync("--yes", source, target, status=5)
    assert contents(inspect(lab, target))[0]["label"] == LABEL
