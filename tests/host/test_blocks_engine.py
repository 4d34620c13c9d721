# SPDX-License-Identifier: GPL-2.0-only
"""What the blocks engine has to find, and what it must leave alone: case by case."""

from __future__ import annotations

import os
import re
from pathlib import Path
from shutil import which

import pytest
from by_blocks import IDLE, assert_same_blocks, synchronised
from lab import MIB, Lab, call, digest, wait_until
from pairs import Pair
from small_disks import BARE_SIZE, bare, folder
from trees import assert_same_tree

SUPERBLOCK = 1024  # bytes of a journal's (kernel documentation, filesystems/ext4/journal.rst)
MEMORY = 256 << 10  # KiB that a run may take, whatever the size of the filesystem


@pytest.fixture
def pair(lab: Lab) -> Pair:
    return Pair(lab)


# --- changes that leave little trace ------------------------------------------------------


def test_rewritten_in_place_within_a_tick_of_the_clock(pair: Pair) -> None:
    """Even the inode is the same, byte for byte: the clock had not moved on."""
    with pair.changing() as tree:
        (tree / "other").write_bytes(os.urandom(50_000))
        (tree / "late").write_bytes(b"old" * 10_000)
        number = (tree / "late").stat().st_ino
    pair.synchronised()
    before = row(pair.source, number)
    with pair.changing() as tree, (tree / "late").open("r+b") as file:
        file.write(b"new" * 10_000)
    put_row(pair.source, number, before)
    assert row(pair.source, number) == row(pair.target, number)
    _, transferred, _ = pair.synchronised()
    assert transferred >= 30_000


def place_of(image: Path, number: int) -> int:
    """The byte at which an inode of 256 bytes stands."""
    said = call("debugfs", "-R", f"imap <{number}>", image)
    found = re.search(r"located at block (\d+), offset 0x([0-9a-f]+)", said)
    size = re.search(r"^Block size: +(\d+)", call("dumpe2fs", "-h", image), re.MULTILINE)
    assert found, said
    assert size
    return int(found[1]) * int(size[1]) + int(found[2], 16)


def row(image: Path, number: int) -> bytes:
    with image.open("rb") as file:
        return os.pread(file.fileno(), 256, place_of(image, number))


def put_row(image: Path, number: int, data: bytes) -> None:
    with image.open("r+b") as file:
        os.pwrite(file.fileno(), data, place_of(image, number))


def test_a_file_that_was_defragmented(pair: Pair) -> None:
    """Its blocks move, without a new time, and below the root of its map."""
    with pair.changing() as tree:
        for _ in range(300):  # two files, by turns: neither has two blocks side by side
            for name in ("one", "other"):
                with (tree / name).open("ab") as file:
                    file.write(os.urandom(4096))
                    os.fsync(file.fileno())
        (tree / "other").unlink()
        facts = (tree / "one").stat()
    pair.synchronised()
    with pair.changing() as tree:
        (tree / "last").write_text("x")
    pair.synchronised()
    before = extents(pair.source)
    assert re.match(r" *0/ *[1-9]", before[0]), "no blocks of its own that tell where it is"
    assert len(before) > 5
    with pair.changing() as tree:
        call("e4defrag", tree / "one")
        assert (tree / "one").stat().st_ctime_ns == facts.st_ctime_ns
    assert extents(pair.source) != before
    pair.synchronised()
    assert_same_blocks(pair.source, pair.target)


def extents(image: Path) -> list[str]:
    """Those of `one`, and the nodes of their tree."""
    return call("debugfs", "-R", "ex one", image).splitlines()[1:]


def test_a_reused_inode(pair: Pair) -> None:
    with pair.changing() as tree:
        (tree / "file").write_bytes(b"1" * 30_000)
        first = (tree / "file").stat().st_ino
    pair.synchronised()
    with pair.changing() as tree:
        (tree / "file").unlink()
        (tree / "new").write_bytes(b"2" * 30_000)
        assert (tree / "new").stat().st_ino == first
    files, transferred, _ = pair.synchronised()
    assert files >= 1
    assert transferred >= 30_000


def test_the_mirror_was_mounted_and_changed_itself(pair: Pair, lab: Lab) -> None:
    with pair.changing() as tree:
        (tree / "file").write_bytes(b"1" * 30_000)
        (tree / "gone").write_bytes(b"1" * 30_000)
    pair.synchronised()
    with lab.mounted(pair.target) as tree:
        (tree / "file").write_bytes(b"2" * 30_000)
        (tree / "gone").unlink()
        (tree / "stray").write_bytes(b"3" * 70_000)
    files, transferred, _ = pair.synchronised()
    assert files >= 2
    assert transferred > 0
    assert_same_blocks(pair.source, pair.target)


def test_inode_tables_that_were_zeroed_later(lab: Lab) -> None:
    """By the kernel, behind the clone's back; what was on the destination must not show."""
    source, target = lab.image("source.img", 64 * MIB), lab.image("target.img", 64 * MIB)
    target.write_bytes(os.urandom(64) * MIB)
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4", "-b", "1024", "-E", "lazy_itable_init=1")
    lab.bsync("--yes", source, target)
    assert "ITABLE_ZEROED" not in call("dumpe2fs", source)
    with lab.mounted(source, options="init_itable=0") as tree:
        (device,) = lab.loops_over(source)
        wait_until(lambda: zeroed(device) == 8, lambda: f"{zeroed(device)} are zeroed")
        for number in range(30):
            top = tree / f"folder-{number}"  # in many groups
            top.mkdir()
            for name in range(60):
                (top / f"{name}").write_text(f"{name}")
    synchronised(lab, source, target)
    assert_same_blocks(source, target)


def zeroed(device: str) -> int:
    """How many groups' inode tables the kernel says it has zeroed."""
    return call("dumpe2fs", device, ok=(0, 1)).count("ITABLE_ZEROED")


# --- sizes --------------------------------------------------------------------------------


def test_journals_that_came_equally_far_each_by_itself(lab: Lab) -> None:
    """How many transactions a change takes is the kernel's to say, so the count is put alike."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.bsync(source, target)
    for image, name in ((source, "here"), (target, "there")):
        with lab.mounted(image) as tree:
            (tree / name).write_bytes(name.encode() * 1000)
    here = journal(source)
    with target.open("r+b") as file:
        file.seek(journal_start(target))
        file.write(here[:SUPERBLOCK])
    there = journal(target)
    assert here[:SUPERBLOCK] == there[:SUPERBLOCK]
    assert here != there
    lab.bsync(source, target)
    assert journal(target) == here
    assert_same_blocks(source, target)


def journal(image: Path) -> bytes:
    call("debugfs", "-R", f"dump <8> {image}.journal", image)
    return Path(f"{image}.journal").read_bytes()


def journal_start(image: Path) -> int:
    block = int(call("debugfs", "-R", "bmap <8> 0", image).split()[-1])
    size = re.search(r"^Block size: +(\d+)", call("dumpe2fs", "-h", image), re.MULTILINE)
    assert size, image
    return block * int(size[1])


def test_a_boot_block_is_copied(lab: Lab) -> None:
    """What it holds is at the same blocks there."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    for contents in (b"loader" * 100, b"another" * 100):
        with source.open("r+b") as file:
            file.write(contents)
        with lab.mounted(source) as tree:
            (tree / "file-001").write_bytes(contents)
        synchronised(lab, source, target)
        assert target.read_bytes()[:1024] == source.read_bytes()[:1024]
        assert target.read_bytes().startswith(contents)


# --- mirrors made by the other engine, and cut off ----------------------------------------


def test_a_mirror_made_by_files_stays_one_until_told_otherwise(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    made_before = "set_super_value mkfs_time 20200101000000"  # not in the mirror's own second
    lab.make(source, None, "debugfs", "-w", "-R", made_before)
    lab.bsync("--engine", "files", source, target)
    assert "not by blocks: the clone was made by files" in lab.bsync("plan", source, target).out
    assert IDLE in lab.bsync(source, target).out

    assert "made by files" in lab.bsync("--engine", "blocks", source, target).out
    assert_same_blocks(source, target)
    assert '"engine": "blocks"' in lab.bsync("plan", "--json", source, target).out
    with lab.mounted(source) as tree:
        (tree / "file-001").write_text("changed")
    synchronised(lab, source, target)
    assert_same_blocks(source, target)
    # A clone of the blocks is a mirror for rsync as well.
    assert IDLE in lab.bsync("--engine", "files", source, target).out


def test_a_nearly_empty_source_does_not_empty_the_mirror_unasked(lab: Lab) -> None:
    source, target = bare(lab, files=200), lab.image("target.img", BARE_SIZE)
    lab.bsync(source, target)
    with lab.mounted(source) as tree:
        for path in tree.glob("file-*"):
            path.unlink()
    before = digest(target)
    assert "not confirmed" in lab.bsync(source, target, status=3).err
    assert digest(target) == before
    synchronised(lab, source, target, "--yes")


@pytest.mark.parametrize("kind", ["ext2", "ext4"])
def test_a_mirror_that_was_cut_off_is_compared_by_contents(lab: Lab, kind: str) -> None:
    source, whole = bare(lab, kind), lab.image("whole.img", BARE_SIZE)
    target = lab.folder / "target.img"
    lab.bsync(source, whole)
    with lab.mounted(whole) as tree:
        (tree / "file-001").write_bytes(os.urandom(20_000))
        (tree / "stray").write_text("x")
        call("sync", "-f", tree)
        call("cp", "--sparse=always", whole, target)
    assert "the last run was interrupted" in synchronised(lab, source, target)
    assert_same_blocks(source, target)


def test_a_damaged_mirror_is_mended(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.bsync(source, target)
    lab.make(target, None, "debugfs", "-w", "-R", "clri <2>")
    lab.make(target, None, "debugfs", "-w", "-R", "set_super_value state 2")
    synchronised(lab, source, target)
    assert_same_blocks(source, target)


def test_contents_that_decayed_are_found_by_checksum(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.bsync(source, target)
    with lab.mounted(source) as tree:  # later than what is to decay
        (tree / "last").write_text("last")
    lab.bsync(source, target)
    block = int(call("debugfs", "-R", "blocks file-001", target).split()[0])
    with target.open("r+b") as file:
        os.pwrite(file.fileno(), b"decayed", block * 1024)
    assert "file-001" in lab.bsync("verify", source, target, status=6).out
    lab.bsync("--checksum", source, target)
    lab.bsync("verify", source, target)
    assert_same_blocks(source, target)


# --- what is shared, and what it takes ----------------------------------------------------


def test_images_on_a_filesystem_that_shares_extents_share_them(lab: Lab) -> None:
    assert which("mkfs.xfs"), "apt-get install xfsprogs"
    room = lab.image("room.img", 512 * MIB)
    call("mkfs.xfs", "-q", "-m", "reflink=1", room)
    tree = folder(lab, "tree", files=40, size=1_000_000)
    with lab.mounted(room) as top:
        source, target = top / "source.img", top / "target.img"
        for image in (source, target):
            with image.open("xb") as file:
                file.truncate(128 * MIB)
        call("mke2fs", "-q", "-t", "ext4", "-d", tree, source)
        call("sync", "-f", top)
        kept, before = digest(source), in_use(top)
        said = lab.bsync(source, target).out
        call("sync", "-f", top)
        assert in_use(top) - before < 8 * MIB
        assert "shared" in call("filefrag", "-v", target)
        assert "0 bytes transferred" in said
        assert "identical" in lab.bsync("verify", source, target).out
        assert digest(source) == kept
        assert IDLE in lab.bsync(source, target).out
        lab.assert_clean(target)


def in_use(top: Path) -> int:
    """Bytes that the filesystem has given away."""
    facts = os.statvfs(top)
    return (facts.f_blocks - facts.f_bfree) * facts.f_frsize


def test_memory_does_not_grow_with_the_filesystem(lab: Lab) -> None:
    source, target = lab.image("source.img", 2 << 40), lab.image("target.img", 2 << 40)
    call("mke2fs", "-q", "-t", "ext4", "-T", "largefile4", "-J", "size=4", source)
    with lab.mounted(source) as tree:
        for number in range(20):
            (tree / f"file-{number}").write_bytes(os.urandom(200_000))
    assert peak(lab, source, target) < MEMORY
    assert peak(lab, source, target) < MEMORY
    assert target.stat().st_blocks * 512 < 1 << 30
    assert IDLE in lab.bsync(source, target).out
    assert_same_tree(lab, source, target)


def peak(lab: Lab, *words: str | Path) -> int:
    """KiB of memory that a run took at most."""
    code = (
        "import atexit, pathlib, re, sys; from bsync.__main__ import main\n"
        "status = pathlib.Path('/proc/self/status')\n"
        "def tell():\n"
        "    print(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1], file=sys.stderr)\n"
        "atexit.register(tell)\n"
        "main()"
    )
    child = lab.start(*words, launcher=("-c", code))
    out, err = child.communicate()
    assert child.returncode == 0, out + err
    return int(err.splitlines()[-1])
