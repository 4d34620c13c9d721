# SPDX-License-Identifier: GPL-2.0-only
"""An image is never a virtual machine's and ours at the same time; tried with QEMU's own tool."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import Lab, call
from small_disks import BARE_SIZE, bare


def qemu(image: Path, *mode: str, form: str = "raw") -> str:
    """What QEMU says when it opens the image; nothing if all is well."""
    result = subprocess.run(
        ["qemu-io", "-f", form, *mode, "-c", "read 0 512", image],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return result.stderr


@contextlib.contextmanager
def machine(image: Path, *mode: str) -> Iterator[None]:
    """QEMU has the image open."""
    child = subprocess.Popen(
        ["qemu-io", "-f", "raw", *mode, image], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdin
    assert child.stdout
    with child:
        child.stdin.write(b"read 0 512\n")
        child.stdin.flush()
        assert b"read 512/512" in child.stdout.readline()
        try:
            yield
        finally:
            child.stdin.close()


def test_a_machine_cannot_start_while_a_run_is_at_work(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with lab.held(source, target) as go_on:
        assert 'Failed to get "write" lock' in qemu(source)
        assert not qemu(source, "-r"), "to read it as well does no harm"
        assert "lock" in qemu(target)
        assert "lock" in qemu(target, "-r"), "half a clone is nothing to read"
        assert go_on().status == 0
    assert not qemu(source)
    assert not qemu(target)
    lab.bsync("verify", source, target)


def test_a_machine_cannot_start_on_an_image_of_a_format(lab: Lab) -> None:
    """Nor on one that is being made."""
    source, target = bare(lab), lab.folder / "target.qcow2"
    call("qemu-img", "create", "-q", "-f", "qcow2", target, str(BARE_SIZE))
    with lab.held(source, f"qcow2://{target}") as go_on:
        assert "lock" in qemu(target, "-r", form="qcow2")
        assert go_on().status == 0
    made = lab.folder / "made.img"
    with lab.held(source, made, "--create", str(BARE_SIZE)) as go_on:
        assert "lock" in qemu(made, "-r")
        assert go_on().status == 0


@pytest.mark.parametrize("command", ["plan", "clone"])
def test_a_machine_that_is_there_first(lab: Lab, command: str) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with machine(source):
        assert "virtual machine" in lab.bsync(command, source, target, status=8).err
    with machine(target, "-r"):
        assert "virtual machine" in lab.bsync(command, source, target, status=8).err
    with machine(source, "-r"):
        lab.bsync(command, source, target)


def test_a_plan_refuses_what_a_run_would_not_be_able_to_write(lab: Lab) -> None:
    source = bare(lab)
    target, image = lab.image("target.img", BARE_SIZE), lab.folder / "target.qcow2"
    call("qemu-img", "create", "-q", "-f", "qcow2", image, str(BARE_SIZE))
    for path, word in ((target, str(target)), (image, f"qcow2://{image}")):
        call("chattr", "+i", path)
        try:
            run = lab.bsync(source, word, status=None)
            planned = lab.bsync("plan", source, word, status=run.status)
        finally:
            call("chattr", "-i", path)
        assert run.status in (3, 4)
        assert planned.err == run.err
        lab.bsync("plan", source, word)
