# SPDX-License-Identifier: GPL-2.0-only
"""Layouts to plan with: plain ones to vary by hand, and strategies for arbitrary ones."""

from __future__ import annotations

import dataclasses
import functools
import uuid
from typing import Any

from hypothesis import strategies as st

from bsync.bootcode import disarmed
from bsync.filesystems.ext import marker
from bsync.filesystems.ext.superblock import Ext, Superblock
from bsync.filesystems.fat.superblock import Fat
from bsync.filesystems.fat.superblock import Superblock as FatSuperblock
from bsync.filesystems.reiserfs.superblock import Reiser
from bsync.filesystems.reiserfs.superblock import Superblock as ReiserSuperblock
from bsync.filesystems.xfs.superblock import Superblock as XfsSuperblock
from bsync.filesystems.xfs.superblock import Xfs
from bsync.model import gpt as gpt_module
from bsync.model import layout
from bsync.model.gpt import Gpt
from bsync.model.layout import (
    Blank,
    Content,
    Disk,
    Extent,
    Filesystem,
    Gap,
    Partition,
    Side,
    Swap,
    Unsupported,
    Volume,
)
from bsync.model.layout import Table as Table
from bsync.plan.steps import Options
from bsync.units import KIB, MIB

UUID = "11111111-2222-4333-8444-555555555555"
OTHER = "99999999-2222-4333-8444-555555555555"
LINUX = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
SEED = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
PLAIN = frozenset({"ext_attr", "filetype", "sparse_super", "large_file"})
MODERN = PLAIN | {
    "has_journal", "resize_inode", "dir_index", "extent", "64bit", "flex_bg", "huge_file",
    "dir_nlink", "extra_isize", "metadata_csum",
}  # fmt: skip

_DEFAULT = Superblock(
    uuid=UUID,
    label="root",
    block_size=4096,
    cluster_size=4096,
    blocks=64 * MIB // 4096,
    free_blocks=48 * MIB // 4096,
    reserved_blocks=819,
    blocks_per_group=32768,
    first_data_block=0,
    inodes=16384,
    free_inodes=16000,
    inodes_per_group=16384,
    inode_size=256,
    features=MODERN,
    state=1,
    revision=1,
    descriptor_size=64,
    first_meta_bg=0,
    groups_per_flex=16,
    reserved_gdt_blocks=7,
    journal_inode=8,
    journal_size=4 * MIB,
    hash_seed=SEED,
    hash_version=1,
    default_mount_options=frozenset({"user_xattr", "acl"}),
    mount_options="",
    errors_behaviour=1,
    max_mount_count=-1,
    check_interval=0,
    reserved_uid=0,
    reserved_gid=0,
    quota_inodes=(0, 0, 0),
)


def superblock(**changes: Any) -> Superblock:
    """A clean ext4 of 64 MiB, a quarter of it used, with `changes`."""
    return dataclasses.replace(_DEFAULT, **changes)


def ext(**changes: Any) -> Ext:
    """An ext4 with that superblock."""
    return Ext("ext4", superblock(**changes))


def reiser(size: int = 256 * MIB, used: int = 64 * MIB, **changes: Any) -> Reiser:
    """A clean ReiserFS, with `changes`; its journal takes no more than half of it."""
    blocks = size // 4096
    journal = min(8192, blocks // 2)
    sb = ReiserSuperblock(
        format="3.6", uuid=UUID, label="old", block_size=4096, blocks=blocks,
        free_blocks=max(0, blocks - max(used // 4096, journal)), journal_size=journal,
        journal_device=0, journal_standard=journal == 8192, transaction_size=1024,
        unmounted=True, faults=0, hash="r5", checked=0,
    )  # fmt: skip
    return Reiser("reiserfs", dataclasses.replace(sb, **changes))


def xfs(size: int = 64 * MIB, **changes: Any) -> Xfs:
    """A clean XFS, a quarter of it used, with `changes`."""
    blocks = size // 4096
    sb = XfsSuperblock(
        uuid=UUID, label="data", block_size=4096, sector_size=512, blocks=blocks,
        group_blocks=4096, groups=-(-blocks // 4096), free_blocks=blocks * 3 // 4,
        log_start=MIB, log_size=MIB, block_uuid=b"u" * 16,
    )  # fmt: skip
    return Xfs("xfs", dataclasses.replace(sb, **changes))


def fat(size: int = 64 * MIB, **changes: Any) -> Fat:
    """A FAT16 that was unmounted cleanly, half of it used, with `changes`."""
    sb = FatSuperblock(
        uuid="1234-ABCD", label="EFI", sector_size=512, cluster=4, reserved=4, tables=2, table=128,
        root=32, sectors=size // 512, width=16, hidden=2048, used=size // 2,
    )  # fmt: skip
    return Fat("vfat", dataclasses.replace(sb, **changes))


def marked(source: Filesystem) -> Filesystem:
    """An incomplete clone of `source`; where only blocks are known, no filesystem tells of it."""
    if isinstance(source, Fat):
        return source
    names: dict[str, Any] = {"uuid": marker.marker_uuid(source.uuid), "label": marker.LABEL}
    match source:
        case Ext(superblock=sb):
            return dataclasses.replace(source, superblock=dataclasses.replace(sb, **names))
        case Xfs(superblock=facts):
            names["label"] = marker.LABEL[:12]
            return dataclasses.replace(source, superblock=dataclasses.replace(facts, **names))
        case Reiser(superblock=old):
            return dataclasses.replace(source, superblock=dataclasses.replace(old, **names))
    raise TypeError(source)


def bare(content: Content | None = None, size: int = 64 * MIB, word: str = "there.img") -> Side:
    """A side without a table."""
    found = layout.bare(size, 512, Blank() if content is None else content)
    return Side(word, "image file", found)


def part(
    number: int, start: int, size: int, content: Content | None = None, type_: str = "83"
) -> Partition:
    """A partition; start and size in MiB."""
    content = Blank() if content is None else content
    extent = Extent(start * MIB, size * MIB)
    return Partition(extent, 512, content, (str(number),), type_)


def dos(
    *parts: Partition, size: int = 256 * MIB, boot: bytes = b"", gap: bytes = b"",
    sector: int = 512,
) -> Disk:  # fmt: skip
    """A disk with a DOS table."""
    code = boot.ljust(446, b"\0")
    records = [(0, code + bytes(64) + b"\x55\xaa")]
    incomplete = boot[:440] == disarmed()
    table = Table(
        "dos", "0xdeadbeef", parts, tuple(records), None, code, gap_of(gap), gap.hex(), incomplete
    )
    return Disk(Extent(0, size), sector, table)


def having(disk: Disk, **changes: Any) -> Disk:
    """The disk with `changes` of its table."""
    return dataclasses.replace(disk, content=dataclasses.replace(disk.table, **changes))


def gap_of(data: bytes, at: int = 512) -> Gap:
    """What stands before the first partition."""
    return Gap((Extent(at, -(-len(data) // 512) * 512),), data.hex()) if data else Gap()


def gpt(disk: Disk, entries: int = 128, primary: bool = True, *faults: str) -> Disk:
    """The same disk with a GPT."""
    sector, room = disk.sector_size, bytearray(128 * entries)
    parts = tuple(
        dataclasses.replace(p, type=LINUX, uuid=UUID) if p.type in ("83", "L") else p
        for p in disk.table.partitions
    )
    for p in parts:
        entry = uuid.UUID(LINUX).bytes_le + uuid.UUID(UUID).bytes_le + bytes(96)
        at = 128 * (p.number - 1)
        room[at : at + 128] = gpt_module.entry_at(entry, p.extent, sector)
    protective = bytes(4) + b"\xee" + bytes(11) + bytes(48)
    mbr = disk.table.boot_code + protective + b"\x55\xaa"
    made = Gpt(sector, mbr, bytes(16), 2048, bytes(room), 128, 2 * sector, faults, primary)
    return having(disk, kind="gpt", partitions=parts, records=(), gpt=made)


def side(found: Volume, word: str = "there.img") -> Side:
    """Something to plan with."""
    return Side(word, "image file", found)


# --- arbitrary ones -----------------------------------------------------------------------

_OPTIONAL = sorted(MODERN - {"has_journal", "64bit"})


@st.composite
def superblocks(draw: st.DrawFn, most: int = 1 << 33) -> Superblock:
    """Superblocks as mke2fs could have made them, of up to `most` bytes."""
    block_size = draw(st.sampled_from((1024, 2048, 4096)))
    first = int(block_size == 1024)
    per_group = 8 * block_size
    blocks = draw(st.integers(MIB // block_size, most // block_size))
    groups = -(-(blocks - first) // per_group)
    inode_size = draw(st.sampled_from((128, 256)))
    step = max(8, block_size // inode_size)
    inodes_per_group = step * draw(st.integers(max(1, 16 // step), 4 * block_size // step))
    inodes = groups * inodes_per_group
    features = set(draw(st.sets(st.sampled_from(_OPTIONAL))))
    features |= draw(st.sampled_from((set(), {"64bit"}, {"has_journal"})))
    tables = inodes * inode_size // block_size + groups * 4
    least = min(blocks, tables + 64)
    used = draw(st.integers(least, blocks))
    return superblock(
        block_size=block_size,
        cluster_size=block_size,
        first_data_block=first,
        blocks_per_group=per_group,
        blocks=blocks,
        free_blocks=blocks - used,
        reserved_blocks=blocks // 20,
        inodes=inodes,
        inodes_per_group=inodes_per_group,
        free_inodes=inodes - draw(st.integers(11, inodes)),
        inode_size=inode_size,
        features=frozenset(features),
        descriptor_size=64 if "64bit" in features else 32,
        reserved_gdt_blocks=draw(st.integers(0, 256)) if "resize_inode" in features else 0,
        journal_inode=8 if "has_journal" in features else 0,
        journal_size=draw(st.sampled_from((0, MIB, 4 * MIB, 64 * MIB)))
        if "has_journal" in features
        else 0,
        groups_per_flex=16 if "flex_bg" in features else 1,
    )


def _some_ext(most: int) -> st.SearchStrategy[Content]:
    def made(sb: Superblock, uuid: str, state: int, is_marked: bool) -> Content:
        found = Ext("ext4", dataclasses.replace(sb, uuid=uuid, state=state))
        return marked(found) if is_marked else found

    state = st.sampled_from((1, 1, 1, 0))
    uuid = st.sampled_from((UUID, OTHER))
    return st.builds(made, superblocks(max(most, 2 * MIB)), uuid, state, st.booleans())


def _some_reiser(most: int) -> st.SearchStrategy[Content]:
    def made(used: int, uuid: str, unmounted: bool, is_marked: bool) -> Content:
        found = reiser(max(most, 2 * MIB), used, uuid=uuid, unmounted=unmounted)
        return marked(found) if is_marked else found

    uuid = st.sampled_from((UUID, OTHER))
    return st.builds(made, st.integers(0, most), uuid, st.booleans(), st.booleans())


def _some_mapped(most: int) -> st.SearchStrategy[Content]:
    """What is known by its blocks in use."""
    size = max(most, 2 * MIB)
    a_fat = st.builds(fat, st.just(size), uuid=st.sampled_from(("1234-ABCD", "FFFF-0000")))
    an_xfs = st.builds(xfs, st.just(size), uuid=st.sampled_from((UUID, OTHER)))
    return st.one_of(a_fat, an_xfs)


@functools.cache  # most of a draw's time goes into making its strategies
def contents(most: int, *, sound: bool = False) -> st.SearchStrategy[Content]:
    """Anything that may stand in `most` bytes; `sound`: what a mirror can be made of."""
    if sound:
        good = superblocks(max(most, 2 * MIB)).map(lambda sb: Ext("ext4", sb))
        old = st.integers(0, most).map(lambda used: reiser(max(most, 2 * MIB), used))
        return st.one_of(good, good, old, _some_mapped(most), st.just(Swap(UUID, "swap")))
    swap = st.builds(Swap, st.sampled_from((UUID, OTHER)), st.text(max_size=4), st.booleans())
    named = (Unsupported("ntfs", "1-2"), Unsupported("LVM2_member", "x"))
    foreign = st.sampled_from((Unsupported(), *named))
    blank: st.SearchStrategy[Content] = st.just(Blank())
    ext = _some_ext(most)
    return st.one_of(blank, foreign, swap, ext, ext, _some_reiser(most), _some_mapped(most))


@st.composite
def disks(draw: st.DrawFn, *, sound: bool = False) -> Disk:
    """Disks with up to three primary, and logical partitions inside an extended one."""
    sizes = draw(st.lists(st.integers(1, 400), min_size=0, max_size=6))
    kind = draw(st.sampled_from(("dos", "dos", "gpt")))
    at = draw(st.sampled_from((1, 2, 63)))
    parts: list[Partition] = []
    logical = kind == "dos" and (len(sizes) > 3 or draw(st.booleans()))
    first = draw(st.integers(0, min(3, len(sizes)))) if logical else len(sizes)
    for number, size in enumerate(sizes[:first], 1):
        parts.append(part(number, at, size, draw(contents(size * MIB, sound=sound))))
        at += size + draw(st.integers(0, 9))
    if logical:
        begin = at
        for number, size in enumerate(sizes[first:], 5):
            parts.append(part(number, at + 1, size, draw(contents(size * MIB, sound=sound))))
            at += size + 1 + draw(st.integers(0, 9))
        at = max(at, begin + 1)
        parts.append(part(4, begin, at - begin, type_=draw(st.sampled_from(("5", "f", "85")))))
    parts.sort(key=lambda found: found.number)
    boot = draw(st.sampled_from((b"", b"\xeb\x63boot", *(() if sound else (disarmed(),)))))
    gap = draw(st.sampled_from((b"", b"core image")))
    size = (at + 1 + draw(st.integers(0, 500))) * MIB
    made = dos(*parts, size=size, boot=boot, gap=gap if kind == "dos" and parts else b"")
    return gpt(made) if kind == "gpt" else made


@st.composite
def tables(draw: st.DrawFn) -> tuple[Side, Side]:
    """A source, and a destination with a compatible table: in other places, with partitions of
    its own before, between and after, and with whatever before the source's first one."""
    size: int = draw(st.integers(1, 8))
    ours: list[bool] = draw(st.lists(st.booleans(), min_size=1, max_size=5))
    wanted = [number for number, shared in enumerate(ours, 1) if shared]
    places: list[int] = draw(st.permutations(range(len(ours))))
    there = [part(number, 1 + 9 * at, 9) for number, at in enumerate(places, 1)]
    first = draw(st.integers(1, 40))
    here = [part(n, first + size * at, size, Unsupported("ntfs")) for at, n in enumerate(wanted)]
    source = having(
        dos(*here),
        gap=Gap((Extent(17 * KIB, draw(st.integers(1, first * 1000)) * KIB),), "gap")
        if here
        else Gap(),
    )
    destination = dos(*there, size=draw(st.sampled_from((47, 60, 256))) * MIB)
    if draw(st.integers(0, 1)):
        source, destination = gpt(source), gpt(destination)
    return side(source, "here.img"), side(destination)


@st.composite
def sides(draw: st.DrawFn, word: str, *, sound: bool = False) -> Side:
    """Anything that a survey may find."""
    if draw(st.integers(0, 3)):
        return side(draw(disks(sound=sound)), word)
    size = draw(st.integers(1, 4000)) * MIB
    return bare(draw(contents(size, sound=sound)), size, word)


@st.composite
def clones(draw: st.DrawFn, source: Side) -> Side:
    """What may have become of a clone of `source`, on a disk of another size."""

    def altered(content: Content, size: int) -> Content:
        choice = draw(st.integers(0, 5))
        if choice == 0:
            return draw(contents(size))
        return marked(content) if choice == 1 and isinstance(content, Filesystem) else content

    before = source.layout
    if not isinstance(before, Disk):
        return bare(altered(before.content, before.size), before.size)
    parts = [
        p if p.is_extended else dataclasses.replace(p, content=altered(p.content, p.extent.size))
        for p in before.table.partitions
    ]
    if parts and draw(st.integers(0, 3)) == 0:
        parts.pop(draw(st.integers(0, len(parts) - 1)))
    code = draw(
        st.sampled_from((before.table.boot_code, disarmed() + bytes(6), b"other".ljust(446)))
    )
    size, incomplete = before.size + draw(st.integers(0, 9)) * MIB, code[:440] == disarmed()
    found = having(before, partitions=tuple(parts), boot_code=code, incomplete=incomplete)
    return side(dataclasses.replace(found, extent=Extent(0, size)))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Side, Side, Options]:
    """Source, destination and options: mostly such that something can be planned."""
    source = draw(sides("here.img", sound=draw(st.integers(0, 4)) > 0))
    choice = draw(st.integers(0, 4))
    if choice < 2:
        destination = draw(clones(source))
    elif choice == 2:
        destination = bare(size=draw(st.integers(1, 4000)) * MIB)
    else:
        destination = draw(sides("there.img"))
    raw = draw(st.booleans()) if choice else False
    return source, destination, Options(draw(st.sampled_from(ENGINES)), raw)


ENGINES = ("auto", "auto", "auto", "blocks", "files", "raw")
