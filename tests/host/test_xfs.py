# SPDX-License-Identifier: GPL-2.0-only
"""XFS goes by its blocks in use, where they are certain; `--raw` copies it where they are not."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest
from lab import MIB, Lab, Part, call, digest
from trees import assert_same_tree

from bsync import ledger as ledgers
from bsync.acquire.block import opened
from bsync.filesystems.xfs import space
from bsync.filesystems.xfs.superblock import parse
from bsync.locate import DevicePath
from bsync.model.allocation import Allocation
from bsync.repair import settle
from bsync.survey import survey
from bsync.units import size_text

SIZE = 320 * MIB  # about the least that mkfs.xfs makes
COPIED, SYNCHRONISED = "copy xfs", "synchronise xfs"
DELETED = b"what a deleted file had " * 200_000
MAKE = ("mkfs.xfs", "-q", "-f")


@pytest.fixture
def source(lab: Lab) -> Path:
    """A filesystem with files, and with gaps that once were files."""
    assert which("mkfs.xfs"), "apt-get install xfsprogs"
    image = lab.image("source.img", SIZE)
    call(*MAKE, image)
    fill(lab, image)
    return image


def fill(lab: Lab, image: Path, part: Part | None = None) -> None:
    chosen = random.Random(1)
    with lab.mounted(image, part) as tree:
        for number in range(400):
            data = chosen.randbytes(chosen.choice((60, 5000, 30_000, 90_000)))
            (tree / f"file-{number:03}").write_bytes(data)
        (tree / "deleted").write_bytes(DELETED)
        call("sync", "-f", tree)
        for number in range(0, 400, 3):
            (tree / f"file-{number:03}").unlink()
        (tree / "deleted").unlink()


def usage_of(image: Path) -> Allocation:
    with image.open("rb") as file:
        sb = parse(file.read(512))
        return space.allocation(lambda at, size: os.pread(file.fileno(), size, at), sb)


def free_byte(image: Path) -> int:
    """Where the longest gap between blocks in use begins."""
    usage = usage_of(image)
    ends = [start + count for start, count in usage.ranges.pairs()]
    starts = [start for start, _ in usage.ranges.pairs()[1:]] + [usage.blocks]
    _, first = max((start - end, end) for start, end in zip(starts, ends, strict=True))
    return first * usage.block_size


def write(image: Path, at: int, data: bytes) -> None:
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), data, at)


def read(image: Path, at: int, size: int) -> bytes:
    with image.open("rb") as file:
        return os.pread(file.fileno(), size, at)


def assert_copy(lab: Lab, source: Path, target: Path, part: Part | None = None) -> None:
    """The same tree, in a filesystem that is in order, and bsync says so."""
    assert "identical" in lab.bsync("verify", source, target).out
    with lab.attached(target, part, read_only=True) as device:
        call("xfs_repair", "-n", device)
    assert_same_tree(lab, source, target, part, part, options="nouuid")


def transferred(out: str) -> float:
    """MiB that a run says it has written."""
    found = re.search(r"done: (?:.* )?([\d.]+) (bytes|KiB|MiB) transferred", out)
    assert found, out
    return float(found[1]) / {"bytes": MIB, "KiB": 1024, "MiB": 1}[found[2]]


# --- what is copied -----------------------------------------------------------------------


def test_a_copy_has_the_blocks_in_use_and_no_others(lab: Lab, source: Path) -> None:
    target, before = lab.image("target.img", SIZE), digest(source)
    said = lab.bsync(source, target).out
    assert COPIED in said
    assert_copy(lab, source, target)
    assert DELETED[:1000] in source.read_bytes()
    assert DELETED[:1000] not in target.read_bytes()
    assert "0 bytes transferred" in lab.bsync(source, target).out
    assert digest(source) == before


def test_the_plan_says_how_much_is_in_use(lab: Lab, source: Path) -> None:
    said = lab.bsync("plan", source, lab.image("target.img", SIZE)).out
    used = parse(read(source, 0, 512)).used
    assert f"copy xfs, {size_text(used)} by blocks (every block in use)" in said


def test_a_changed_file_is_all_that_is_written(lab: Lab, source: Path) -> None:
    target = lab.image("target.img", SIZE)
    lab.bsync(source, target)
    with lab.mounted(source) as tree:
        (tree / "file-001").write_bytes(b"changed")
        (tree / "new").write_bytes(os.urandom(MIB))
    said = lab.bsync(source, target).out
    assert SYNCHRONISED in said
    assert 1 <= transferred(said) < 6
    assert_copy(lab, source, target)
    assert "0 bytes transferred" in lab.bsync(source, target).out


def test_what_is_not_in_use_stays_on_a_mirror(lab: Lab, source: Path) -> None:
    target, at = lab.image("target.img", SIZE), free_byte(source)
    lab.bsync(source, target)
    write(target, at, b"stays")
    with lab.mounted(source) as tree:
        (tree / "file-001").write_bytes(b"changed")
    lab.bsync(source, target)
    assert free_byte(source) == at
    assert read(target, at, 5) == b"stays"
    assert_copy(lab, source, target)


@pytest.mark.parametrize("start", [2048, 63], ids=["aligned", "not aligned"])
def test_a_partition(lab: Lab, start: int) -> None:
    source, target = (lab.image(name, SIZE + 2 * MIB) for name in ("source.img", "target.img"))
    script = f"label: dos\nstart={start}, size={SIZE // 512}, type=83\n"
    part = lab.table(source, script)[0]
    lab.make(source, part, *MAKE)
    fill(lab, source, part)
    assert f"partition 1: {COPIED}" in lab.bsync(source, target).out
    assert_copy(lab, source, target, part)
    assert "0 bytes transferred" in lab.bsync(source, target).out


@pytest.mark.parametrize(
    "options",
    [(), ("-m", "rmapbt=1"), ("-b", "size=1024"), ("-s", "size=4096"), ("-d", "agcount=3"),
     ("-m", "reflink=0,finobt=0,bigtime=0", "-i", "sparse=0"), ("-d", "su=64k,sw=4,agcount=3")],
    ids=" ".join,
)  # fmt: skip
def test_partclone_knows_of_no_other_block_in_use(lab: Lab, options: tuple[str, ...]) -> None:
    """A second opinion, of the very blocks that another program would copy."""
    assert which("partclone.xfs"), "apt-get install partclone"
    image, listed = lab.image("source.img", SIZE), lab.folder / "map"
    call(*MAKE, *options, image)
    fill(lab, image)
    with lab.attached(image, read_only=True) as device:
        call("partclone.xfs", "-q", "-L", "/dev/null", "-D", "-s", device, "-O", listed)
    usage = usage_of(image)
    ours = {block for start, count in usage.ranges.pairs() for block in range(start, start + count)}
    theirs = set(blocks_of(listed.read_text(), usage.block_size))
    assert theirs <= ours
    # Free lists are in use here, and free there: a few blocks in each group.
    assert len(ours - theirs) < 80
    lab.bsync(image, lab.image("target.img", SIZE))
    assert_copy(lab, image, lab.folder / "target.img")


def blocks_of(listed: str, size: int) -> Iterator[int]:
    """The blocks that a map in ddrescue's format has as good ones."""
    for first, count in re.findall(r"^(0x\w+)\s+(0x\w+)\s+\+$", listed, re.MULTILINE):
        yield from range(int(first, 16) // size, (int(first, 16) + int(count, 16)) // size)


# --- what is there before -----------------------------------------------------------------


def test_nothing_old_is_found_beside_a_copy(lab: Lab, source: Path) -> None:
    """The signature of a RAID member, in a block that the source has not in use."""
    target = lab.image("target.img", SIZE)
    write(target, SIZE - 1024, b"Intel Raid ISM Cfg Sig. 1.0.00")
    assert usage_of(source).ranges.pairs()[-1] < (usage_of(source).blocks - 1, 1)
    assert "isw_raid_member" in lab.bsync(source, target, status=3).out
    lab.bsync("--yes", source, target)
    assert call("blkid", "-p", "-o", "value", "-s", "TYPE", target).split() == ["xfs"]
    assert_copy(lab, source, target)


def test_another_xfs_is_replaced_once_that_is_confirmed(lab: Lab, source: Path) -> None:
    target = lab.image("target.img", SIZE)
    call(*MAKE, target)
    before = digest(target)
    lab.bsync(source, target, status=3)
    assert digest(target) == before
    lab.bsync("--yes", source, target)
    assert_copy(lab, source, target)


# --- where the blocks in use are not known ------------------------------------------------


@pytest.mark.parametrize("frozen", [False, True], ids=["synced", "frozen"])
def test_a_copy_of_a_mounted_one_goes_byte_by_byte(lab: Lab, source: Path, frozen: bool) -> None:
    """Its record of free space may be older than its log."""
    image = lab.image("unclean.img", SIZE)
    with lab.mounted(source) as tree:
        (tree / "late").write_bytes(os.urandom(9 * MIB))
        call("sync", "-f", tree)
        if frozen:
            call("fsfreeze", "--freeze", tree)
        call("cp", "--sparse=always", source, image)
        if frozen:
            call("fsfreeze", "--unfreeze", tree)
    target, before = lab.image("target.img", SIZE), digest(image)
    assert "not cleanly unmounted" in lab.bsync(image, target, status=3).err
    said = lab.bsync("--raw", image, target).out
    assert "all bytes, since it was not cleanly unmounted" in said
    assert digest(image) == digest(target) == before
    assert "identical" in lab.bsync("verify", image, target).out
    with lab.mounted(target, options="nouuid") as tree:
        assert (tree / "late").stat().st_size == 9 * MIB


def test_the_log_of_a_clean_one_is_known_to_be_empty_wherever_it_ends(lab: Lab) -> None:
    image = lab.image("source.img", SIZE)
    call(*MAKE, image)
    for number in range(12):
        with lab.mounted(image) as tree:
            for name in range(number * 20):
                (tree / f"{number}-{name}").touch()
        assert usage_of(image).used
        assert "<CLEAN>" in call("xfs_logprint", "-t", image)


def test_free_space_that_contradicts_itself(lab: Lab, source: Path) -> None:
    target = lab.image("target.img", SIZE)
    (free,) = re.findall(r"= (\d+)", call("xfs_db", "-r", "-c", "sb 0", "-c", "p fdblocks", source))
    call("xfs_db", "-x", "-c", "sb 0", "-c", f"write fdblocks {int(free) - 1}", source)
    said = lab.bsync("--raw", source, target).out
    assert "all bytes, since its record of free space is damaged" in said
    assert digest(source) == digest(target)


# --- runs that are cut off, and copies that decay -----------------------------------------


@pytest.mark.parametrize("count", [1, 8])
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "again"])
def test_a_copy_that_was_cut_off_is_taken_for_none(
    lab: Lab, source: Path, count: int, fresh: bool
) -> None:
    target = lab.image("target.img", SIZE)
    if not fresh:
        lab.bsync(source, target)
        with lab.mounted(source) as tree:
            for number in range(1, 400, 3):
                (tree / f"file-{number:03}").write_bytes(os.urandom(40_000))
    run = lab.faulty("blocks:pwritev", count, "KILL", source, target)
    assert run.status == -9
    lab.bsync("recover")
    if fresh or count > 1:  # the first write of a second run is the one that erases
        assert call("blkid", "-p", target, ok=(2,)) == ""
        assert "an incomplete clone" in lab.bsync("inspect", target).out
        lab.bsync("verify", source, target, status=6)
    lab.bsync(source, target)
    assert_copy(lab, source, target)


def test_where_only_the_first_block_differs_it_alone_is_written(lab: Lab, source: Path) -> None:
    target = lab.image("target.img", SIZE)
    lab.bsync(source, target)
    call("xfs_db", "-x", "-c", "sb 0", "-c", 'write fname "label"', source)
    assert "4 KiB transferred" in lab.bsync(source, target).out
    assert_copy(lab, source, target)


def test_verify_sees_a_byte_that_decayed(lab: Lab, source: Path) -> None:
    target, usage = lab.image("target.img", SIZE), usage_of(source)
    lab.bsync(source, target)
    start, count = usage.ranges.pairs()[len(usage.ranges.pairs()) // 2]
    at = (start + count) * usage.block_size - 1
    write(target, at, bytes([read(target, at, 1)[0] ^ 1]))
    assert "its blocks in use differ" in lab.bsync("verify", source, target, status=6).out
    assert 0 < transferred(lab.bsync(source, target).out) < 1
    assert_copy(lab, source, target)


# --- larger places ------------------------------------------------------------------------


def blocks_of_clone(image: Path) -> int:
    return parse(read(image, 0, 512)).blocks


@pytest.mark.parametrize("more", [3 * MIB, 200 * MIB], ids=["its last group", "more groups"])
def test_a_clone_grows_to_its_place_and_stays_so(lab: Lab, source: Path, more: int) -> None:
    target = lab.image("target.img", SIZE + more)
    lab.bsync(source, target)
    assert blocks_of_clone(target) == (SIZE + more) // 4096
    assert_copy(lab, source, target)
    before = digest(target)
    assert "nothing differs" in lab.bsync(source, target).out
    assert digest(target) == before
    with lab.mounted(source) as tree:
        (tree / "new").write_bytes(os.urandom(MIB))
    lab.bsync(source, target)
    assert blocks_of_clone(target) == (SIZE + more) // 4096
    assert_copy(lab, source, target)


def test_a_grown_clone_that_was_written_to_is_mended(lab: Lab, source: Path) -> None:
    target = lab.image("target.img", SIZE + 100 * MIB)
    lab.bsync(source, target)
    with lab.mounted(target, options="nouuid") as tree:
        (tree / "file-001").write_bytes(b"changed on the clone")
    lab.bsync("verify", source, target, status=6)
    lab.bsync(source, target)
    assert_copy(lab, source, target)


def test_a_grown_clone_whose_log_holds_changes_is_not_taken_for_the_same(
    lab: Lab, source: Path
) -> None:
    target, left = lab.image("target.img", SIZE + 100 * MIB), lab.folder / "left.img"
    lab.bsync(source, target)
    with lab.mounted(target, options="nouuid") as tree:
        (tree / "file-001").unlink()
        call("fsfreeze", "--freeze", tree)
        call("cp", "--sparse=always", target, left)
        call("fsfreeze", "--unfreeze", tree)
    lab.bsync("verify", source, left, status=6)
    lab.bsync(source, left)
    assert_copy(lab, source, left)


def test_a_clone_that_is_not_to_grow(lab: Lab, source: Path) -> None:
    target = lab.image("target.img", SIZE + 100 * MIB)
    lab.bsync("--no-grow", source, target)
    assert blocks_of_clone(target) == SIZE // 4096
    assert "grow, finish" in lab.bsync(source, target).out
    assert blocks_of_clone(target) == (SIZE + 100 * MIB) // 4096
    assert_copy(lab, source, target)


def test_a_copy_of_ours_that_was_taken_at_work_is_settled(lab: Lab, source: Path) -> None:
    """As the snapshot of a volume is: its log is recovered by mounting it once."""
    image = lab.image("unclean.img", SIZE)
    with lab.mounted(source) as tree:
        (tree / "late").write_bytes(os.urandom(MIB))
        call("fsfreeze", "--freeze", tree)
        call("cp", "--sparse=always", source, image)
        call("fsfreeze", "--unfreeze", tree)
        with (
            opened(DevicePath(str(image)), writable=True) as device,
            ledgers.opened(lab.runtime) as ledger,
        ):
            assert settle(survey(device), device, ledger)
            assert not settle(survey(device), device, ledger)
    target = lab.image("target.img", SIZE)
    lab.bsync(image, target)
    assert_copy(lab, image, target)
