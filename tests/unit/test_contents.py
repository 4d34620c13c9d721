# SPDX-License-Identifier: GPL-2.0-only
"""What becomes of one partition's contents."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import builders
import pytest

from bsync.errors import Refused
from bsync.filesystems.ext import make
from bsync.filesystems.ext.superblock import Ext
from bsync.model.layout import Blank, Content, Extent, Filesystem, Swap, Unsupported
from bsync.plan.contents import Steps, content_steps
from bsync.plan.steps import (
    CompleteBlocks,
    CompleteFilesystem,
    CopyBlocks,
    CopyFiles,
    CopyRaw,
    GrowExt,
    MakeFilesystem,
    MakeSwap,
    MarkBlocks,
    MarkFilesystem,
    Options,
    Place,
    Way,
)
from bsync.units import MIB

SIZE = 64 * MIB
SWAP = Swap(builders.UUID, "swap")
FILES = Options("files")


def planned(
    source: Content, there: Content, *, size: int = SIZE, options: Options | None = None
) -> Steps:
    """The steps for a source of 64 MiB."""
    place = Place(1, Extent(MIB, SIZE), Extent(MIB, size))
    return content_steps(place, source, there, options or FILES)


def kinds(steps: Steps) -> list[type]:
    return [type(step) for step in steps.steps]


def refusal(
    source: Content, there: Content, size: int = SIZE, options: Options | None = None
) -> str:
    with pytest.raises(Refused) as caught:
        planned(source, there, size=size, options=options)
    assert "partition 1" in caught.value.message
    return f"{caught.value.message} ({caught.value.hint})"


# --- ext ----------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [Blank(), Swap("x", "y")])
def test_what_is_nobodys_loss_is_overwritten_unasked(there: Content) -> None:
    steps = planned(builders.ext(), there)
    assert kinds(steps) == [MakeFilesystem, CopyFiles, CompleteFilesystem]
    assert not steps.destroys


@pytest.mark.parametrize(
    "there",
    [
        Unsupported(),
        Unsupported("ntfs"),
        Swap("x", "y", hibernated=True),
        builders.ext(uuid=builders.OTHER),
        Ext("ext3", builders.superblock()),
        builders.ext(features=builders.MODERN | {"unknown-ro-0x80000000"}),
        builders.marked(builders.ext(uuid=builders.OTHER)),
    ],
)
def test_what_is_lost_is_said(there: Content) -> None:
    steps = planned(builders.ext(), there)
    assert kinds(steps) == [MakeFilesystem, CopyFiles, CompleteFilesystem]
    assert len(steps.destroys) == 1
    assert steps.destroys[0].startswith("destination (partition 1): ")


@pytest.mark.parametrize("there", [builders.ext(), builders.marked(builders.ext())])
def test_a_mirror_is_synchronised(there: Ext) -> None:
    steps = planned(builders.ext(), there)
    assert kinds(steps) == [MarkFilesystem, CopyFiles, CompleteFilesystem]
    assert not steps.destroys
    _, copy, _ = steps.steps
    assert isinstance(copy, CopyFiles)
    assert not copy.fresh
    assert not copy.checksum


def test_a_mirror_that_its_source_outgrew_grows_if_its_partition_lets_it() -> None:
    large = builders.ext(blocks=65536, free_blocks=16384)  # 192 MiB in use
    small = builders.ext(blocks=16384)  # 64 MiB
    steps = planned(large, small, size=512 * MIB)
    assert kinds(steps) == [MarkFilesystem, GrowExt, CopyFiles, CompleteFilesystem]
    assert not steps.destroys
    assert "the files need" in refusal(large, small, size=128 * MIB)
    assert "the files need" in refusal(large, small, size=64 * MIB)
    features = small.superblock.features | {"bigalloc"}
    rigid = builders.ext(blocks=16384, features=features)
    assert "the files need" in refusal(large, rigid, size=512 * MIB)
    assert kinds(planned(small, small, size=512 * MIB)) == [
        MarkFilesystem,
        CopyFiles,
        CompleteFilesystem,
    ]


def test_a_mirror_that_was_cut_off_is_compared_by_contents() -> None:
    _, copy, _ = planned(builders.ext(), builders.ext(state=0)).steps
    assert isinstance(copy, CopyFiles)
    assert copy.checksum


def test_checksums_are_asked_for() -> None:
    _, copy, _ = planned(
        builders.ext(), builders.ext(), options=Options("files", checksum=True)
    ).steps
    assert isinstance(copy, CopyFiles)
    assert copy.checksum


def test_an_emptied_source_does_not_empty_the_mirror_unasked() -> None:
    full, empty = builders.ext(free_inodes=10_000), builders.ext(free_inodes=16_300)
    assert "6,300" in planned(empty, full).destroys[0]
    assert not planned(full, empty).destroys
    assert not planned(empty, builders.marked(full)).destroys, "an unfinished one is nobody's loss"
    few, fewer = builders.ext(free_inodes=16_300), builders.ext(free_inodes=16_350)
    assert not planned(fewer, few).destroys, "of a few files nobody is asked"
    none = builders.ext(free_inodes=16_373)  # the root and lost+found are left
    assert "73 of 73 files" in planned(none, few).destroys[0], "of all it is asked"
    assert not planned(none, none).destroys
    large, small = builders.ext(free_blocks=4096), builders.ext(free_blocks=14_000)
    assert "MiB" in planned(small, large).destroys[0], "bytes count, too"


def test_an_emptied_source_of_another_kind_does_not_empty_its_clone_unasked() -> None:
    full, empty = (builders.xfs(free_blocks=free) for free in (1000, 14_000))
    assert "MiB" in planned(empty, full, options=Options()).destroys[0]
    assert not planned(full, empty, options=Options()).destroys


@pytest.mark.parametrize("null", ["", "00000000-0000-0000-0000-000000000000"])
@pytest.mark.parametrize("options", [FILES, Options("blocks"), Options("raw")])
def test_no_id_is_nobodys(null: str, options: Options) -> None:
    source = builders.ext(uuid=null)
    assert planned(source, source, options=options).destroys
    if options.engine != "raw":
        assert planned(source, builders.marked(source), options=options).destroys


def test_other_features_of_a_mirror_are_said() -> None:
    old = builders.ext(features=builders.PLAIN | {"has_journal"})
    (note,) = planned(builders.ext(), old).notes
    assert "metadata_csum" in note
    assert not planned(builders.ext(), builders.ext()).notes
    seeded = builders.marked(builders.ext(features=builders.MODERN | {"metadata_csum_seed"}))
    assert not planned(builders.ext(), seeded).notes, "the marker itself is no difference"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"features": builders.MODERN | {"needs_recovery"}}, "journal"),
        ({"features": builders.MODERN | {"orphan_present"}}, "e2fsck -p"),
        ({"state": 0}, "e2fsck -p"),
        ({"state": 3}, "e2fsck -p"),
        ({"journal_inode": 0}, "another device"),
        ({"features": builders.MODERN | {"encrypt"}}, "encrypt"),
        ({"features": builders.MODERN | {"unknown-incompat-0x80000000"}}, "unknown-incompat"),
        ({"label": "bsync-incomplete"}, "incomplete clone"),
    ],
)
def test_a_source_that_would_not_be_mirrored_is_refused(
    changes: dict[str, object], said: str
) -> None:
    for there in (Blank(), builders.ext(), Unsupported("ntfs")):
        assert said in refusal(builders.ext(**changes), there)


def test_a_smaller_destination_needs_room_for_what_is_used() -> None:
    source = builders.ext()
    least = make.smallest(source.superblock)
    assert least < SIZE
    assert kinds(planned(source, Blank(), size=least)) == [
        MakeFilesystem,
        CopyFiles,
        CompleteFilesystem,
    ]
    said = refusal(source, Blank(), size=least - MIB)
    need, have = said.split("the files need ")[1].split(", the destination has ")
    assert need.endswith("MiB")
    assert have.startswith(f"{(least - MIB) // MIB} MiB")


def test_a_smaller_mirror_that_is_too_full_is_refused() -> None:
    source = builders.ext(free_blocks=0)
    there = builders.ext(blocks=8192, free_blocks=100)
    assert "the files need" in refusal(source, there, 8192 * 4096)
    crowded = builders.ext(inodes=32, inodes_per_group=32, free_inodes=1)
    assert "the files need" in refusal(builders.ext(), crowded)


def test_a_boot_loader_in_the_boot_block_is_said() -> None:
    source = dataclasses.replace(builders.ext(), boot_block=True)
    (note,) = planned(source, Blank()).notes
    assert "boot" in note


# --- swap ---------------------------------------------------------------------------------


def test_swap_is_made_anew() -> None:
    steps = planned(SWAP, Blank())
    assert kinds(steps) == [MakeSwap]
    assert kinds(planned(SWAP, Swap(builders.OTHER, "swap"))) == [MakeSwap]
    assert planned(SWAP, builders.ext()).destroys


def test_the_same_swap_is_left_alone() -> None:
    steps = planned(SWAP, SWAP)
    assert not steps.steps
    assert steps.notes


def test_a_sleeping_machine_is_refused() -> None:
    assert "hibernation" in refusal(Swap(builders.UUID, "", hibernated=True), Blank())


def test_too_little_for_swap() -> None:
    assert "too few" in refusal(SWAP, Blank(), size=4096)


# --- anything else ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "named"),
    [(Unsupported("ntfs"), "ntfs"), (Unsupported(), "no known"), (Blank(), "no known")],
)
def test_unknown_contents_are_refused_by_name(content: Content, named: str) -> None:
    said = refusal(content, Blank())
    assert named in said
    assert "--raw" in said


def test_raw_contents_are_copied_on_demand() -> None:
    steps = planned(Unsupported("ntfs", "1"), Unsupported("exfat", "2"), options=Options(raw=True))
    assert kinds(steps) == [CopyRaw]
    assert steps.steps[0].cost == SIZE
    assert steps.destroys
    again = planned(Unsupported("ntfs", "1"), Unsupported("ntfs", "1"), options=Options(raw=True))
    assert not again.destroys, "a mirror already"
    unnamed = planned(Unsupported("ntfs"), Unsupported("ntfs"), options=Options(raw=True))
    assert unnamed.destroys, "without a UUID nobody knows"


@pytest.mark.parametrize("make", [builders.xfs, builders.fat])
def test_known_blocks_in_use_are_all_that_is_copied(make: Callable[..., Filesystem]) -> None:
    source = make()
    for there, way, lost in (
        (Blank(), Way.FRESH, False),
        (make(uuid="1111-2222"), Way.FRESH, True),
        (source, Way.COMPARE, False),
        (Blank(begun=True), Way.RESUME, False),
    ):
        steps = planned(source, there, options=Options())
        mark, copy, complete = steps.steps
        assert isinstance(mark, MarkBlocks)
        assert isinstance(copy, CopyBlocks)
        assert isinstance(complete, CompleteBlocks)
        assert (copy.way, copy.cost, bool(steps.destroys)) == (way, source.used, lost)


def test_where_the_blocks_in_use_are_not_known_every_byte_is_copied_if_that_is_wanted() -> None:
    source = dataclasses.replace(builders.xfs(), unmapped="nobody knows")
    (step,) = planned(source, Blank(), options=Options(raw=True)).steps
    assert isinstance(step, CopyRaw)
    assert (step.cost, step.reason) == (SIZE, "all bytes, since nobody knows")
    assert "nobody knows" in refusal(source, Blank(), options=Options())


def test_a_fat_says_where_it_begins() -> None:
    source = builders.fat(hidden=2048)
    here, there = Extent(MIB, SIZE), Extent(2 * MIB, SIZE)
    (note,) = content_steps(Place(1, here, there), source, Blank(), Options()).notes
    assert "sector 2048, that of the clone: at 4096" in note
    assert not content_steps(Place(1, here, here), source, Blank(), Options()).notes
    assert not content_steps(Place(0, here, there), source, Blank(), Options()).notes


def test_raw_needs_all_the_room() -> None:
    assert "raw copy needs" in refusal(Unsupported("ntfs"), Blank(), SIZE - 512, Options(raw=True))
    assert kinds(planned(Unsupported("ntfs"), Blank(), size=SIZE + 512, options=Options(raw=True)))


def test_the_raw_engine_takes_everything() -> None:
    raw = Options(engine="raw")
    for content in (builders.ext(state=0), SWAP, Unsupported("ntfs"), Blank()):
        assert kinds(planned(content, Blank(), options=raw)) == [CopyRaw]
