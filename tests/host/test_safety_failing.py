# SPDX-License-Identifier: GPL-2.0-only
"""A run that fails says so, and leaves a mirror that says so too; the next run completes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from aftermath import Case, assert_not_mistaken, blank, changed_mirror
from lab import MIB, Lab, call
from small_disks import BARE_SIZE, bare, copied, disk

pytestmark = pytest.mark.engine("files")

Stand = tuple[str, str, str]

# What fails, and with what arguments: a program, its way to fail, and when.
FAILING: dict[str, Stand] = {
    "rsync fails": ("rsync", "echo 'rsync: broken' >&2; exit 12", "progress2"),
    "rsync is killed": ("rsync", "kill -9 $$", "progress2"),
    "rsync says nothing": ("rsync", "exit 0", "progress2"),
    "mke2fs fails": ("mke2fs", "echo 'mke2fs: broken' >&2; exit 1", "/dev/loop"),
    "mkswap fails": ("mkswap", "exit 1", "--uuid"),
    "marking fails": ("tune2fs", "exit 1", "bsync-incomplete"),
    "tuning fails": ("tune2fs", "exit 1", "mount_opts"),
    "sync fails": ("sync", "exit 1", "--file-system"),
    "wiping fails": ("wipefs", "exit 1", "--all"),
    "the destination cannot be mounted": ("mount", "exit 32", "rw,"),
}


@pytest.mark.parametrize("what", FAILING)
def test_a_first_clone_of_which_a_step_fails_is_marked(lab: Lab, what: str) -> None:
    fail(lab, blank(lab, disk(lab)), FAILING[what])


@pytest.mark.parametrize("what", ["rsync fails", "marking fails", "tuning fails", "sync fails"])
def test_a_synchronisation_of_which_a_step_fails_is_marked(lab: Lab, what: str) -> None:
    fail(lab, changed_mirror(lab, disk(lab)), FAILING[what])


def fail(lab: Lab, case: Case, stand: Stand) -> None:
    """Let a program fail; then let it work again."""
    target = copied(case.before, "target.img")
    path = lab.stand_in(*stand)
    run = lab.bsync(case.source, target, status=5)
    assert run.err.startswith("bsync: ")
    assert len(run.err.splitlines()) <= 2, run.err
    path.unlink()
    assert not lab.left()
    assert_not_mistaken(lab, case, target)
    lab.bsync("--yes", case.source, target)
    lab.bsync("verify", case.source, target)


@pytest.fixture
def little_room(lab: Lab) -> Iterator[Path]:
    """A directory on a filesystem of 2 MiB."""
    room = lab.folder / "room"
    room.mkdir()
    call("mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", room)
    yield room
    call("umount", room)


def test_a_sparse_destination_whose_host_is_full_is_marked(lab: Lab, little_room: Path) -> None:
    """Writing fails below the filesystem; once there is room, the next run completes it."""
    source = bare(lab, files=300)
    target = little_room / "target.img"
    with target.open("xb") as file:
        file.truncate(BARE_SIZE)
    before = lab.image("before.img", BARE_SIZE)

    run = lab.bsync(source, target, status=5)
    assert len(run.err.splitlines()) <= 2, run.err
    assert not [what for what in lab.left() if not what.startswith("mount")]
    call("mount", "-o", "remount,size=64M", little_room)
    assert_not_mistaken(lab, Case(source, before), target)
    lab.bsync("--yes", source, target)
    lab.bsync("verify", source, target)
    call("e2fsck", "-fn", target)


def test_a_destination_that_stays_busy_is_a_failed_copy(lab: Lab) -> None:
    """What is still mounted may still change; it is not completed, and recovered later."""
    case = blank(lab, bare(lab))
    target = copied(case.before, "target.img")
    path = lab.stand_in("umount", "echo 'umount: target is busy' >&2; exit 32", "destination-")
    run = lab.impatient(case.source, target)
    assert run.status == 5, run
    assert "still mounted" in run.err
    assert "bsync recover" in run.err
    path.unlink()
    assert any(what.startswith("ledger") for what in lab.left())
    lab.bsync("recover")
    lab.assert_all_goes()
    assert_not_mistaken(lab, case, target)
    lab.bsync(case.source, target)
    lab.bsync("verify", case.source, target)


def test_a_source_that_stays_busy_is_said_after_a_good_copy(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    path = lab.stand_in("umount", "echo 'umount: target is busy' >&2; exit 32", "source-")
    run = lab.impatient(source, target)
    assert run.status == 7, run
    assert "bsync recover" in run.err
    path.unlink()
    recovered = lab.bsync("recover")
    assert "released mount" in recovered.out
    lab.assert_all_goes()
    lab.bsync("verify", source, target)


def test_an_interrupted_run_does_not_say_that_all_was_released_if_it_was_not(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    path = lab.stand_in("umount", "echo 'umount: target is busy' >&2; exit 32", "source-")
    stop = lab.stand_in("rsync", 'kill -TERM "$PPID"; sleep 1000', when="progress2")
    run = lab.impatient(source, target)
    assert run.status == 143, run
    assert "terminated" in run.err
    assert "everything released" not in run.err
    assert "bsync recover" in run.err
    path.unlink()
    stop.unlink()
    lab.bsync("recover")
    lab.assert_all_goes()


def test_what_cannot_be_released_by_recover_is_said(lab: Lab) -> None:
    """A ledger of a version that holds what this one does not know."""
    folder = lab.runtime / "20200101T000000-00000000"
    folder.mkdir(parents=True)
    line = '{"entry": 1, "event": "acquire", "kind": "wormhole", "facts": {"end": "far"}}\n'
    (folder / "ledger").write_text(line)
    run = lab.bsync("recover", status=7)
    assert "wormhole" in run.err
    source, target = bare(lab), lab.image("target.img", 16 * MIB)
    assert "wormhole" in lab.bsync(source, target).out
    (folder / "ledger").unlink()
    lab.bsync("recover")
    assert not lab.left()


@pytest.mark.parametrize(
    "ledger",
    [
        b"",
        b'{"entry": 1',
        b"\xff\xfe\x00\n[]\n7\nnull\n",
        b'{"entry": 1, "event": "acquire", "kind": "loop", "facts": {}}\n'[:-9],
        b'{"entry": 3, "event": "released"}\n',
    ],
)
def test_a_ledger_that_says_nothing_is_cleared_away(lab: Lab, ledger: bytes) -> None:
    folder = lab.runtime / "20200101T000000-00000000"
    folder.mkdir(parents=True)
    (folder / "ledger").write_bytes(ledger)
    lab.bsync("recover")
    assert not lab.left()
