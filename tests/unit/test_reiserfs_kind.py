# SPDX-License-Identifier: GPL-2.0-only
"""ReiserFS: its superblock, and what becomes of one."""

from __future__ import annotations

import dataclasses
import struct
import uuid

import builders
import pytest

from bsync.errors import Refused
from bsync.filesystems import marker
from bsync.filesystems.kind import BadSuperblock
from bsync.filesystems.reiserfs import by_files
from bsync.filesystems.reiserfs.superblock import SIZE, Reiser, parse
from bsync.model.layout import Blank, Content, Extent
from bsync.plan.contents import Steps, content_steps
from bsync.plan.steps import (
    CompleteFilesystem,
    CopyFiles,
    MakeFilesystem,
    MarkBlocks,
    MarkFilesystem,
    Options,
    Place,
)
from bsync.units import MIB

GIB = 1024 * MIB


def data(
    *, magic: bytes = b"ReIsEr2Fs", version: int = 2, state: int = 1, faults: int = 0,
    device: int = 0, journal: int = 8192, block_size: int = 4096, free: int = 200_000,
    name: str = builders.UUID, label: bytes = b"old",
) -> bytes:  # fmt: skip
    """A superblock as mkreiserfs writes it, of a filesystem of 1 GiB, with changes."""
    blocks = GIB // 4096
    first = struct.pack(
        "<11I4H10sH", blocks, free, 8211, 18, device, journal, 1024, 7, 900, 30, 0,
        block_size, 972, 2, state, magic, faults,
    )  # fmt: skip
    second = struct.pack("<I5H", 3, 2, 8, version, 0, 0)
    plain = (first + second)[:76].ljust(84, b"\0")
    return (plain + uuid.UUID(name).bytes + label.ljust(16, b"\0")).ljust(SIZE, b"\0")


def reiser(**changes: object) -> Reiser:
    return Reiser("reiserfs", parse(data(**changes)))  # type: ignore[arg-type]


def planned(source: Content, there: Content, size: int = GIB) -> Steps:
    place = Place(1, Extent(MIB, GIB), Extent(MIB, size))
    return content_steps(place, source, there, Options())


def kinds(steps: Steps) -> list[type]:
    return [type(step) for step in steps.steps]


def test_every_field_is_read() -> None:
    sb = parse(data())
    assert (sb.format, sb.uuid, sb.label) == ("3.6", builders.UUID, "old")
    assert (sb.block_size, sb.blocks, sb.free_blocks) == (4096, GIB // 4096, 200_000)
    assert (sb.journal_size, sb.transaction_size, sb.journal_device) == (8192, 1024, 0)
    assert (sb.hash, sb.journal_standard, sb.clean) == ("r5", True, True)
    assert sb.size == GIB
    assert sb.used == GIB - 200_000 * 4096


def test_formats_are_told_apart() -> None:
    assert parse(data(magic=b"ReIsErFs")).format == "3.5"
    assert parse(data(magic=b"ReIsEr3Fs")).format == "3.6"
    assert parse(data(magic=b"ReIsEr3Fs", version=0)).format == "3.5"
    assert not parse(data(magic=b"ReIsEr3Fs")).journal_standard


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": b"ReIsEr4"}, {"magic": b"ReIsEr3Fs", "version": 7}, {"block_size": 3},
        {"free": GIB}, {"journal": GIB},
    ],
)  # fmt: skip
def test_damage_is_no_superblock(changes: dict[str, object]) -> None:
    with pytest.raises(BadSuperblock):
        reiser(**changes)
    with pytest.raises(BadSuperblock):
        parse(data()[:-1])


def test_it_is_made_marked_and_completed() -> None:
    source = reiser()
    steps = planned(source, Blank())
    assert kinds(steps) == [MakeFilesystem, CopyFiles, CompleteFilesystem]
    made = by_files.making(source, GIB, "/dev/x")
    assert made[made.index("-u") + 1] == marker.marker_uuid(builders.UUID)
    assert made[made.index("-l") + 1] == marker.LABEL
    assert made[-2:] == ["/dev/x", str(GIB // 4096)]
    ((*_, option, label, device),) = by_files.unmarking(source, source, "/dev/x")
    assert (option, label, device) == ("-l", "old", "/dev/x")


@pytest.mark.parametrize("there", [{}, {"name": marker.marker_uuid(builders.UUID),
                                        "label": marker.LABEL.encode()}])  # fmt: skip
def test_a_mirror_is_synchronised(there: dict[str, object]) -> None:
    steps = planned(reiser(), reiser(**there))
    assert kinds(steps) == [MarkFilesystem, CopyFiles, CompleteFilesystem]
    assert not steps.destroys


@pytest.mark.parametrize(
    "there", [reiser(name=builders.OTHER), reiser(magic=b"ReIsErFs"), builders.ext()]
)
def test_what_is_no_mirror_is_lost(there: Content) -> None:
    steps = planned(reiser(), there)
    assert kinds(steps) == [MakeFilesystem, CopyFiles, CompleteFilesystem]
    assert len(steps.destroys) == 1


def test_a_reiserfs_is_no_mirror_of_an_ext() -> None:
    ext = builders.ext()
    namesake = reiser(name=marker.marker_uuid(ext.uuid), label=marker.LABEL.encode())
    steps = planned(ext, namesake)
    assert kinds(steps)[0] is MarkBlocks
    assert steps.destroys


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"state": 2}, "mount and unmount it"),
        ({"faults": 1}, "reiserfsck"),
        ({"magic": b"ReIsErFs"}, "3.5"),
        ({"device": 7}, "another device"),
        ({"label": marker.LABEL.encode()}, "incomplete clone"),
    ],
)
def test_what_would_not_be_mirrored_is_refused(changes: dict[str, object], said: str) -> None:
    with pytest.raises(Refused) as caught:
        planned(reiser(**changes), Blank())
    assert said in f"{caught.value.message} ({caught.value.hint})"


def test_a_mirror_that_was_cut_off_is_compared_by_contents() -> None:
    _, copy, _ = planned(reiser(), reiser(state=2)).steps
    assert isinstance(copy, CopyFiles)
    assert copy.checksum


def test_a_smaller_destination_needs_room_for_what_is_used() -> None:
    source = reiser()
    least = by_files.smallest(source)
    assert source.used < least < GIB
    assert by_files.fits(source, least)
    assert not by_files.fits(source, least - MIB)
    with pytest.raises(Refused, match="the files need"):
        planned(source, Blank(), least - MIB)
    small = dataclasses.replace(source.superblock, blocks=20_000, free_blocks=100)
    with pytest.raises(Refused, match="the files need"):
        planned(source, Reiser("reiserfs", small))


def test_an_emptied_source_does_not_empty_the_mirror_unasked() -> None:
    assert planned(reiser(free=250_000), reiser()).destroys
    assert not planned(reiser(), reiser(free=250_000)).destroys


def test_another_make_of_a_mirror_is_said() -> None:
    other = dataclasses.replace(reiser().superblock, hash="tea")
    (note,) = planned(reiser(), Reiser("reiserfs", other)).notes
    assert "tea" in note


def test_a_journal_of_another_size_is_made_alike() -> None:
    made = by_files.making(reiser(magic=b"ReIsEr3Fs", journal=1024), GIB, "/dev/x")
    assert made[made.index("-s") + 1] == "1025"
    assert "-s" not in by_files.making(reiser(), GIB, "/dev/x")


def test_what_changed_late_is_compared_since_the_last_check() -> None:
    there = Reiser("reiserfs", dataclasses.replace(reiser().superblock, checked=1_000_000))
    (copy,) = (step for step in planned(reiser(), there).steps if isinstance(step, CopyFiles))
    assert copy.since == 1_000_000 - 24 * 3600
    assert reiser().superblock.checked == 0
    at = data()[:120] + (7).to_bytes(4, "little") + data()[124:]
    assert parse(at).checked == 7


def test_a_repair_does_not_count_as_the_last_check() -> None:
    source, torn = reiser(), reiser(state=2)
    assert "-C" in by_files.marking(source, torn, "/dev/x")
    assert "-C" not in by_files.marking(source, source, "/dev/x")
