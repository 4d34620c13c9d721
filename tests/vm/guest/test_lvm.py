# SPDX-License-Identifier: GPL-2.0-only
"""Logical volumes: read through a snapshot, written as a transaction."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import MIB, Started, call, wait_until
from rig import Rig
from small_disks import disk
from volumes import VolumeGroup, volume_group

# Made whole at once: else the kernel goes on making it while it is mounted, between two runs.
_WHOLE = ("-E", "lazy_itable_init=0,lazy_journal_init=0")
EXT4 = ("mke2fs", "-q", "-t", "ext4", "-U", "11111111-2222-3333-4444-555555555555", *_WHOLE)


def digest(device: str) -> str:
    with Path(device).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def filled(rig: Rig, device: str) -> None:
    """An ext4 with a file in it."""
    call(*EXT4, device)
    with rig.mounted_device(device) as tree:
        (tree / "file").write_text("one")


def assert_only(group: VolumeGroup, *names: str) -> None:
    assert set(group.volumes()) == set(names)


def test_a_mounted_volume_is_cloned_as_it_was(rig: Rig) -> None:
    image = rig.image("clone.img", 64 * MIB)
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("data", "64M")
        filled(rig, origin)
        with rig.mounted_device(origin) as tree:
            (tree / "before").write_text("before")
            call("sync")
            with rig.held("lvm+snapshot://vg0/data", image) as go_on:
                (tree / "after").write_text("after")
                call("sync")
                run = go_on()
            assert run.status == 0, run.err
            assert (tree / "after").exists()
        assert_only(group, "data")
    with rig.mounted(image) as clone:
        assert (clone / "before").read_text() == "before"
        assert not (clone / "after").exists()


def test_a_thin_volume_gets_a_thin_snapshot(rig: Rig) -> None:
    image = rig.image("clone.img", 64 * MIB)
    with volume_group(rig.disk(0)) as group:
        origin = group.thin(group.pool("pool", "200M"), "root", "64M")
        filled(rig, origin)
        with rig.mounted_device(origin):
            run = rig.bsync("lvm+snapshot://vg0/root", image)
            assert "thin snapshot of vg0/root" in run.out
            assert "0 files, 0 bytes" in rig.bsync("lvm+snapshot://vg0/root", image).out
        assert_only(group, "pool", "root")


def test_a_volume_with_a_whole_disk(rig: Rig) -> None:
    source = disk(rig)
    size = source.stat().st_size
    image = rig.image("clone.img", size)
    with volume_group(rig.disk(0)) as group:
        rig.put(source, group.linear("machine", f"{size}b"))
        rig.bsync("lvm+snapshot://vg0/machine", image)
        rig.assert_mirror(source, image)
        assert_only(group, "machine")


def test_a_destination_is_written_as_a_transaction(rig: Rig) -> None:
    source = disk(rig)
    size = source.stat().st_size
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("clone", f"{size}b")
        rig.bsync(source, "lvm+snapshot://vg0/clone")
        assert_only(group, "clone")
        rig.assert_mirror(source, origin)
        assert "0 files, 0 bytes" in rig.bsync(source, "lvm+snapshot://vg0/clone").out
        rig.assert_mirror(source, origin)


@pytest.mark.engine("files")
def test_a_failed_transaction_leaves_the_origin_alone(rig: Rig) -> None:
    source = disk(rig)
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("clone", f"{source.stat().st_size}b")
        call(*EXT4, origin)
        before = digest(origin)
        rig.stand_in("rsync", "exit 5")
        rig.bsync("--yes", source, "lvm+snapshot://vg0/clone", status=5)
        assert digest(origin) == before
        assert_only(group, "clone")


@pytest.mark.parametrize(
    ("full", "hint"), [(False, "--snapshot-size"), (True, "extend vg0 with vgextend")]
)
def test_an_overflowing_snapshot_ends_the_run(rig: Rig, full: bool, hint: str) -> None:
    image = rig.image("clone.img", 96 * MIB)
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("data", "96M")
        filled(rig, origin)
        if full:
            free = call("vgs", "--noheadings", "--nosuffix", "--units", "m", "-o", "vg_free", "vg0")
            group.linear("others", f"{int(float(free)) - 4}M")
        with rig.mounted_device(origin) as tree:
            words = ("--snapshot-size", "4M", "lvm+snapshot://vg0/data", image)
            with rig.held(*words) as go_on:
                (tree / "large").write_bytes(os.urandom(16 * MIB))
                call("sync")
                run = go_on()
            assert run.status == 5, run.out + run.err
            assert hint in run.err
        assert_only(group, "data", *(["others"] if full else []))
    rig.bsync("inspect", image)


@pytest.mark.engine("files")
def test_a_snapshot_that_gets_full_is_said(rig: Rig) -> None:
    """At once, not at the end."""
    image, hold = rig.image("clone.img", 96 * MIB), rig.folder / "hold"
    rig.stand_in("rsync", f"touch {hold}; while [ -e {hold} ]; do sleep 0.1; done", "progress2")
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("data", "96M")
        filled(rig, origin)
        with rig.mounted_device(origin) as tree:
            child = rig.start("--snapshot-size", "16M", "lvm+snapshot://vg0/data", image)
            try:
                wait_until(hold.exists, lambda: "it never came to copying")
                with (tree / "large").open("wb") as large:
                    while fullness() < 82:
                        large.write(os.urandom(MIB))
                        os.fsync(large.fileno())
                wait_for_words(child, " % full")
            except BaseException:  # else its stand-in may wait for ever
                child.terminate()
                raise
            finally:
                hold.unlink(missing_ok=True)
                _, err = child.communicate()
        assert child.returncode == 0, err
        assert_only(group, "data")


def wait_for_words(child: Started, words: str) -> None:
    """Until a running bsync has said them."""
    assert child.stdout is not None
    descriptor, said = child.stdout.fileno(), b""
    os.set_blocking(descriptor, False)

    def heard() -> bool:
        nonlocal said
        with contextlib.suppress(BlockingIOError):
            said += os.read(descriptor, 65536)
        return words in said.decode(errors="replace")

    wait_until(heard, lambda: f"only this was said: {said!r}")
    os.set_blocking(descriptor, True)


def fullness() -> float:
    """Per cent of the only snapshot in vg0."""
    command = ("lvs", "--noheadings", "-o", "data_percent", "--select", "origin=data", "vg0")
    return float(call(*command))


def test_a_volume_written_throughout_is_cloned_as_at_one_moment(rig: Rig) -> None:
    """Records go to two files in turn, each on the disk before the next."""
    image = rig.image("clone.img", 64 * MIB)
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("data", "64M")
        filled(rig, origin)
        with rig.mounted_device(origin) as tree, writer(tree) as written:
            wait_until(lambda: written() > 5, lambda: "nothing is written")
            rig.bsync("--snapshot-size", "75%", "lvm+snapshot://vg0/data", image)
            copied = written()
            wait_until(lambda: written() > copied, lambda: "it was not written to the end")
        assert_only(group, "data")
    rig.assert_clean(image)
    with rig.mounted(image, read_only=True) as clone:
        one, other = ((clone / name).read_text().split() for name in ("one", "other"))
    assert one == [str(number) for number in range(len(one))]
    assert other == one[: len(other)]
    assert len(one) - len(other) in (0, 1), "not of one moment"
    assert 5 < len(other) <= copied


@contextlib.contextmanager
def writer(tree: Path) -> Iterator[Callable[[], int]]:
    """Writes for as long as the block lasts; how many records are in both files."""
    over, done = threading.Event(), 0

    def write() -> None:
        nonlocal done
        with (tree / "one").open("w") as one, (tree / "other").open("w") as other:
            while not over.is_set():
                for file in (one, other):
                    file.write(f"{done}\n")
                    file.flush()
                    os.fsync(file.fileno())
                done += 1

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield lambda: done
    finally:
        over.set()
        thread.join()


def test_what_a_killed_run_leaves_is_recovered_and_nothing_else(rig: Rig) -> None:
    image = rig.image("clone.img", 64 * MIB)
    with volume_group(rig.disk(0)) as group:
        filled(rig, group.linear("data", "64M"))
        call("lvcreate", "-q", "-q", "-y", "-s", "-L", "8M", "-n", "theirs", "vg0/data")
        rig.faulty("after-step", 2, "KILL", "lvm+snapshot://vg0/data", image)
        assert len(group.volumes()) == 3
        rig.bsync("recover")
        assert_only(group, "data", "theirs")


def test_refusals(rig: Rig) -> None:
    image = rig.image("clone.img", 64 * MIB)
    with volume_group(rig.disk(0)) as group:
        origin = group.linear("data", "64M")
        filled(rig, origin)
        rig.bsync("lvm+snapshot://vg0/none", image, status=4)
        rig.bsync("lvm+snapshot://none/data", image, status=4)
        rig.bsync("lvm+snapshot://vg0/data", "lvm+snapshot://vg0/data", status=3)
        rig.bsync("lvm+snapshot://vg0/data", origin, status=3)
        with rig.mounted_device(origin):
            rig.bsync("--yes", image, "lvm+snapshot://vg0/data", status=8)
        assert_only(group, "data")
