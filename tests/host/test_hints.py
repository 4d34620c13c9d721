# SPDX-License-Identifier: GPL-2.0-only
"""What to do is what would help."""

from __future__ import annotations

import sys

import pytest
from lab import MIB, Lab, call, digest
from small_disks import bare

BSYNC = f"{sys.executable} -m bsync"


@pytest.mark.parametrize("option", ["--yes", "--dry-run"])
def test_a_swap_file_in_use(lab: Lab, option: str) -> None:
    """The kernel refuses to have it written, but only after the plan began."""
    source, target = bare(lab), lab.folder / "swap.img"
    target.write_bytes(bytes(64 * MIB))
    target.chmod(0o600)
    call("mkswap", "--quiet", target)
    was = digest(target)
    call("swapon", target)
    try:
        run = lab.bsync(source, target, option, status=8)
    finally:
        call("swapoff", target)
    assert "in use as swap" in run.err
    assert f"swapoff {target}" in run.err
    assert digest(target) == was


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
