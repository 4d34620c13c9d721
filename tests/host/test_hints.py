# SPDX-License-Identifier: GPL-2.0-only
"""What to do is what would help."""

from __future__ import annotations

import sys

from lab import MIB, Lab
from small_disks import bare

BSYNC = f"{sys.executable} -m bsync"


def test_a_folder_that_is_missing(lab: Lab) -> None:
    run = lab.bsync(bare(lab), lab.folder / "no" / "x.img", "--create", "64M", status=4)
    assert f"mkdir -p {lab.folder}/no" in run.err
    assert "truncate" not in run.err


def test_a_folder_that_is_read_only(lab: Lab) -> None:
    source = bare(lab)
    folder = lab.folder / "full"
    folder.mkdir()
    run = lab.within(
        f"mount -t tmpfs -o ro none {folder}; exec {BSYNC} {source} {folder}/x.img --create 64M"
    )
    assert run.status == 4, run
    assert "mounted read-only" in run.err
    assert "truncate" not in run.err


def test_root_without_its_privileges(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    run = lab.within(f"exec setpriv --bounding-set -sys_admin {BSYNC} {source} {target}")
    assert run.status == 4, run
    assert "CAP_SYS_ADMIN" in run.err
    assert "run as root" not in run.err
