# SPDX-License-Identifier: GPL-2.0-only
"""Where the kernel cannot be asked what stands on what, as in a chroot or a container: either it
can be made to answer, or nothing is written."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lab import MIB, Lab, Part, Run, digest
from small_disks import bare

BSYNC = f"{sys.executable} -m bsync"
GONE = "umount -l /sys"
EMPTY = "mount -t tmpfs none /sys"
HIDDEN = "mount -t tmpfs none /sys/dev/block; mount -t tmpfs none /sys/block"


def after(lab: Lab, before: str, *words: str | Path) -> Run:
    """A run of bsync in a shell, and a mount namespace, in which `before` has happened."""
    return lab.within(f"{before}\nexec {BSYNC} {' '.join(map(str, words))}")


@pytest.mark.parametrize("before", [GONE, HIDDEN])
@pytest.mark.parametrize("options", ["--yes", "--dry-run"])
def test_a_loop_device_over_the_source_as_destination(lab: Lab, before: str, options: str) -> None:
    source = bare(lab)
    was = digest(source)
    with lab.attached(source, Part(1, MIB, 63 * MIB, "")) as device:
        run = after(lab, before, source, device, options, "--raw")
        other = after(lab, before, device, source, options, "--raw")
    assert run.status in (3, 4, 8), run
    assert other.status in (3, 4, 8), other
    assert digest(source) == was


@pytest.mark.parametrize("before", [EMPTY, f"{GONE}; umount -l /proc"])
@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_a_clone_where_proc_and_sys_are_missing(lab: Lab, before: str, engine: str) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    run = after(lab, before, source, target, "--engine", engine)
    assert run.status == 0, run
    lab.bsync("verify", source, target)


def test_a_clone_where_sys_cannot_be_seen(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    run = after(lab, HIDDEN, source, target)
    assert run.status == 4, run
    assert "mount -t sysfs sysfs /sys" in run.err


# A /dev with what a container has.
BARE_DEV = """mkdir {lab}/dev; mount -t tmpfs none {lab}/dev
for name in null zero full random urandom tty fuse loop-control; do
  [ ! -e /dev/$name ] || cp -a /dev/$name {lab}/dev/; done
ln -s /proc/self/fd {lab}/dev/fd; mount --move {lab}/dev /dev"""


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_a_clone_without_loop_nodes(lab: Lab, engine: str) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    dev = BARE_DEV.replace("{lab}", str(lab.folder))
    run = lab.within(f"{dev}\n{BSYNC} {source} {target} --engine {engine} && ls -d /dev/loop*")
    assert run.status == 0, run
    assert run.out.endswith("/dev/loop-control\n")
    lab.bsync("verify", source, target)


def test_a_loop_device_without_a_node_counts(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    with lab.attached(target):
        run = after(lab, BARE_DEV.replace("{lab}", str(lab.folder)), source, target)
    assert run.status == 8, run
    assert "is attached as /dev/loop" in run.err


@pytest.mark.parametrize("engine", ["blocks", "files", "raw"])
def test_without_loop_control(lab: Lab, engine: str) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    was = digest(target)
    dev = BARE_DEV.replace("{lab}", str(lab.folder)) + "\nrm /dev/loop-control"
    run = after(lab, dev, source, target, "--engine", engine)
    assert run.status == 4, run
    assert "a container must be allowed /dev/loop-control" in run.err
    assert digest(target) == was


def test_a_chroot_that_is_no_mount_point(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    root = lab.folder / "root"
    root.mkdir()
    was = digest(target)
    script = f"""cd {root}
for name in /*; do
  if [ -d $name ] && [ ! -L $name ]; then
    mkdir .$name; mount --rbind $name .$name; else cp -a $name .; fi
done
"""
    enter = f"exec chroot {root} {BSYNC} {source} {target}"
    run = lab.within(script + enter)
    assert run.status == 4, run
    assert "/ is not a mount point" in run.err
    assert "mount --bind" in run.err
    assert digest(target) == was
    run = lab.within(f"mount --bind {root} {root}\n{script}{enter}")
    assert run.status == 0, run
    lab.bsync("verify", source, target)
