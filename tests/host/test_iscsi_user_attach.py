# SPDX-License-Identifier: GPL-2.0-only
"""LUNs of a real target attached in user space: what is written arrives, and nothing else."""

from __future__ import annotations

import os

import pytest
from exports import (
    BLOCK,
    SIZE,
    assert_filesystem,
    command_lines,
    environments,
    ledger_in,
    loop_over,
    make_filesystem,
    write_blocks,
    wrong_blocks,
)
from lab import MIB, Lab, call, digest
from loopback_target import serving

from bsync.acquire.iscsi_user import attached
from bsync.acquire.open_iscsi import Credentials
from bsync.errors import Refused, Unavailable
from bsync.locate import IscsiLun, parse

ALL = range(SIZE // BLOCK)


def lun(word: str) -> IscsiLun:
    locator = parse(word)
    assert isinstance(locator, IscsiLun)
    return locator


def test_a_filesystem_written_to_a_lun_is_in_its_file(lab: Lab) -> None:
    image = lab.image("lun", SIZE)
    with (
        serving(image) as target,
        ledger_in(lab) as ledger,
        attached(ledger, lun(target.word), None, writable=True) as found,
        loop_over(found.export.path, writable=True) as device,
    ):
        assert (found.lun.number, found.lun.size, found.lun.block_size) == (1, SIZE, 512)
        assert found.lun.name == "IET VIRTUAL-DISK"
        make_filesystem(device, lab.folder / "tree")
    assert_filesystem(lab, image)


def test_a_source_cannot_be_written(lab: Lab) -> None:
    image = lab.image("lun", SIZE)
    lab.make(image, None, "mke2fs", "-q")
    before = digest(image)
    with (
        serving(image) as target,
        ledger_in(lab) as ledger,
        attached(ledger, lun(target.word), None, writable=False) as found,
    ):
        assert found.export.path.read_bytes() == image.read_bytes()
        with pytest.raises(OSError, match=r"denied|not permitted|Read-only"):
            found.export.path.write_bytes(b"x")
        with loop_over(found.export.path, writable=False) as device:
            call("e2fsck", "-fn", device)
    assert digest(image) == before


def test_writes_in_flight_together_do_not_corrupt_each_other(lab: Lab) -> None:
    """The first trap: with direct I/O on the loop device most of these blocks are wrong."""
    image = lab.image("lun", SIZE)
    with (
        serving(image) as target,
        ledger_in(lab) as ledger,
        attached(ledger, lun(target.word), None, writable=True) as found,
    ):
        with loop_over(found.export.path, writable=True) as device:
            write_blocks(device, ALL)
        os.truncate(lab.image("copy", 0), SIZE)
        call("cp", found.export.path, lab.folder / "copy")
    assert wrong_blocks(image, ALL) == []
    assert wrong_blocks(lab.folder / "copy", ALL) == []


@pytest.mark.parametrize(
    "command",
    [
        ("blkdiscard", "--zeroout"),
        ("fallocate", "--zero-range", "--keep-size"),
        ("fallocate", "--punch-hole"),
        ("blkdiscard",),
    ],
)
def test_what_counts_as_zeroed_is_zero(lab: Lab, command: tuple[str, ...]) -> None:
    """The second trap: without the guard a hole is punched, and the old data are still there."""
    image = lab.image("lun", SIZE)
    with image.open("r+b") as file:
        file.write(b"x" * 4 * MIB)
    with (
        serving(image) as target,
        ledger_in(lab) as ledger,
        attached(ledger, lun(target.word), None, writable=True) as found,
        loop_over(found.export.path, writable=True) as device,
    ):
        where = ("--offset", str(MIB), "--length", str(MIB), device)
        try:
            call(*command, *where)
        except AssertionError:
            assert "fallocate" in command, "only what may fail honestly may fail"
            expected = b"x"
        else:
            expected = b"x" if command == ("blkdiscard",) else b"\0"
    assert image.read_bytes()[: 4 * MIB] == b"x" * MIB + expected * MIB + b"x" * 2 * MIB


def test_a_hole_in_the_export_itself_is_refused(lab: Lab) -> None:
    image = lab.image("lun", SIZE)
    image.write_bytes(b"x" * SIZE)
    with (
        serving(image) as target,
        ledger_in(lab) as ledger,
        attached(ledger, lun(target.word), None, writable=True) as found,
    ):
        hole = ("--offset", "0", "--length", "4096")
        call("fallocate", "--punch-hole", *hole, found.export.path, ok=(1,))
    assert image.read_bytes() == b"x" * SIZE


# --- which LUN ----------------------------------------------------------------------------


def test_one_of_several_disks_has_to_be_named(lab: Lab) -> None:
    images = [lab.image(f"lun{number}", number * SIZE) for number in (1, 2)]
    with serving(*images) as target, ledger_in(lab) as ledger:
        with pytest.raises(Refused, match="has 2 disks") as caught:
            attached(ledger, lun(target.word), None, writable=False).__enter__()
        assert "LUN 1 (64 MiB), LUN 2 (128 MiB)" in caught.value.hint
        with attached(ledger, lun(f"{target.word}/2"), None, writable=False) as found:
            assert found.export.path.stat().st_size == 2 * SIZE


@pytest.mark.parametrize("number", [0, 5])
def test_a_lun_that_is_no_disk_is_unavailable(lab: Lab, number: int) -> None:
    with serving(lab.image("lun", SIZE)) as target, ledger_in(lab) as ledger:
        with pytest.raises(Unavailable, match=f"no disk at LUN {number}") as caught:
            attached(ledger, lun(f"{target.word}/{number}"), None, writable=False).__enter__()
        assert "LUN 1" in caught.value.hint


def test_a_target_without_disks_is_unavailable(lab: Lab) -> None:
    with (
        serving() as target,
        ledger_in(lab) as ledger,
        pytest.raises(Unavailable, match="has no disk"),
    ):
        attached(ledger, lun(target.word), None, writable=False).__enter__()


def test_a_read_only_lun_is_only_a_source(lab: Lab) -> None:
    with serving(lab.image("lun", SIZE), read_only=True) as target, ledger_in(lab) as ledger:
        with pytest.raises(Refused, match="read-only"):
            attached(ledger, lun(target.word), None, writable=True).__enter__()
        with attached(ledger, lun(target.word), None, writable=False) as found:
            assert found.lun.read_only


def test_a_lun_cannot_be_both_sides_or_written_by_two_runs(lab: Lab) -> None:
    with (
        serving(lab.image("lun", SIZE), lab.image("other", SIZE)) as target,
        ledger_in(lab) as ledger,
        ledger_in(lab) as another,
        attached(ledger, lun(f"{target.word}/1"), None, writable=False),
        attached(another, lun(f"{target.word}/1"), None, writable=False),
        attached(another, lun(f"{target.word}/2"), None, writable=True),
    ):
        for word in ("1", "2"):
            with pytest.raises(Refused, match="is the source, too"):
                attached(ledger, lun(f"{target.word}/{word}"), None, writable=True).__enter__()


# --- passwords ----------------------------------------------------------------------------

PASSWORD = "sesame-12'\"{}"  # tgtadm takes no comma


def test_a_password_is_used_and_not_seen(lab: Lab) -> None:
    image = lab.image("lun", SIZE)
    with (
        serving(image, user="me", password=PASSWORD) as target,
        ledger_in(lab) as ledger,
        attached(
            ledger, lun(target.word), Credentials("me", PASSWORD), writable=True
        ) as found,
    ):  # fmt: skip
        assert found.export.path.stat().st_size == SIZE
        assert command_lines(ledger.run)
        assert not command_lines("sesame")
        assert not environments("sesame")
        assert sorted(path.name for path in ledger.directory.iterdir()) == ["export-1", "ledger"]
        assert "sesame" not in (ledger.directory / "ledger").read_text()


@pytest.mark.parametrize(
    "credentials",
    [None, Credentials("me", "wrong-sesame"), Credentials("you", PASSWORD)],
    ids=["none", "password", "user"],
)
def test_a_wrong_password_is_unavailable(lab: Lab, credentials: Credentials | None) -> None:
    with (
        serving(lab.image("lun", SIZE), user="me", password=PASSWORD) as target,
        ledger_in(lab) as ledger,
    ):
        with pytest.raises(Unavailable, match="user name or the password") as caught:
            attached(ledger, lun(target.word), credentials, writable=False).__enter__()
        assert "sesame" not in f"{caught.value.message} {caught.value.hint}"


def test_mutual_chap_is_not_pretended(lab: Lab) -> None:
    mutual = Credentials("me", PASSWORD, "target", "secret-of-it")
    with ledger_in(lab) as ledger, pytest.raises(Unavailable, match="mutual CHAP"):
        attached(ledger, lun("iscsi://me@127.0.0.1/iqn.2004-10.org.example:x"), mutual,
                 writable=False).__enter__()  # fmt: skip
