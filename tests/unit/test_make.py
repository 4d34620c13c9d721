# SPDX-License-Identifier: GPL-2.0-only
"""How a filesystem like another one is made, and how much room that takes."""

from __future__ import annotations

import dataclasses
import os
import subprocess
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import builders
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bsync.filesystems.ext import make, marker, superblock
from bsync.filesystems.ext.superblock import Superblock
from bsync.units import GIB, MIB

SIZES = st.integers(1, 20_000).map(lambda size: size * MIB)


@given(builders.superblocks(), SIZES)
def test_a_shape_is_within_the_destination(source: Superblock, size: int) -> None:
    made = make.shape(source, size)
    assert made.blocks * source.block_size <= size
    assert made.inodes >= source.used_inodes, "too few inodes for the files"
    assert made.journal % MIB == 0
    assert bool(made.journal) == ("has_journal" in source.features)


@given(builders.superblocks())
def test_the_same_size_gets_the_same_shape(source: Superblock) -> None:
    made = make.shape(source, source.size)
    assert made.blocks == source.blocks
    if source.free_blocks * source.block_size > source.size // 5 + 128 * MIB:
        assert made.inodes == source.inodes


@given(builders.superblocks())
def test_the_smallest_destination_is_one_that_fits(source: Superblock) -> None:
    size = make.smallest(source)
    assert size % MIB == 0
    assert make.fits(source, size)
    assert size >= source.used_inodes * source.inode_size
    assert size <= MIB or not make.needed(source, size - MIB) <= size - MIB


@given(builders.superblocks(), SIZES)
def test_the_source_always_fits_its_own_size(source: Superblock, more: int) -> None:
    assert make.fits(source, source.size)
    assert make.fits(source, source.size + more)


@given(builders.superblocks(), st.integers(1, 4096))
def test_what_fits_fits_a_larger_one(source: Superblock, more: int) -> None:
    """But for the structures of a last group that is too small to hold anything else."""
    group = (source.reserved_gdt_blocks + 300) * source.block_size + 2 * MIB
    size = make.smallest(source) * 11 // 10 + group + more * MIB
    assert make.fits(source, size)


@given(builders.superblocks(most=1 << 32))
def test_fewer_files_never_need_more(source: Superblock) -> None:
    emptier = builders.superblock(
        **{
            **vars(source),
            "free_blocks": min(source.blocks, source.free_blocks + 1000),
            "free_inodes": min(source.inodes, source.free_inodes + 1000),
        }
    )
    assert make.smallest(emptier) <= make.smallest(source)


@pytest.mark.parametrize("size", [GIB, 17 * GIB, 16 << 40, 64 << 40])
def test_a_huge_destination_gets_no_more_blocks_than_can_be_counted(size: int) -> None:
    narrow = builders.superblock(features=builders.PLAIN, descriptor_size=32)
    assert make.shape(narrow, size).blocks == min(size // 4096, (1 << 32) - 1)
    assert make.shape(builders.superblock(), size).blocks == size // 4096


# --- arguments ----------------------------------------------------------------------------


def words(arguments: list[str]) -> dict[str, str]:
    """Options and their values."""
    return dict(pairwise(arguments))


def test_everything_is_said_to_mke2fs() -> None:
    source = builders.superblock(features=builders.MODERN | {"quota"}, quota_inodes=(3, 0, 12))
    made = make.Shape(10_000, 5_000, 4 * MIB)
    arguments = make.mke2fs_arguments(source, made, "/dev/x")
    assert arguments[0] == "mke2fs"
    assert arguments[-2:] == ["/dev/x", "40000k"]
    said = words(arguments)
    assert said["-U"] == source.uuid
    assert said["-L"] == marker.LABEL, "it is marked from its first moment"
    assert said["-O"].split(",")[0] == "none", "no default of this machine's"
    assert set(said["-O"].split(",")[1:]) == source.features
    assert (said["-b"], said["-I"], said["-N"]) == ("4096", "256", "5000")
    assert (said["-G"], said["-J"], said["-m"]) == ("16", "size=4", "0")
    assert "hash_seed" not in said["-E"], "it is no copy of the source's blocks"
    assert "quotatype=usrquota:prjquota" in said["-E"]


def test_states_of_the_moment_are_no_features() -> None:
    source = builders.superblock(features=builders.MODERN | {"needs_recovery", "orphan_present"})
    assert make.features(source) == builders.MODERN


def test_an_old_one_is_made_old() -> None:
    source = builders.superblock(features=frozenset(), revision=0, journal_size=0)
    arguments = make.mke2fs_arguments(source, make.Shape(100, 100, 0), "x")
    said = words(arguments)
    assert (said["-r"], said["-t"], said["-O"]) == ("0", "ext2", "none")
    assert "-J" not in said
    assert "-G" not in said


@pytest.mark.parametrize(
    ("features", "kind"),
    [
        (builders.PLAIN, "ext2"),
        (builders.PLAIN | {"has_journal"}, "ext3"),
        (builders.MODERN, "ext4"),
        (builders.MODERN - {"has_journal"}, "ext4"),
    ],
)
def test_the_kind_follows_from_the_features(features: frozenset[str], kind: str) -> None:
    source = builders.superblock(features=features)
    assert words(make.mke2fs_arguments(source, make.Shape(9, 9, 0), "x"))["-t"] == kind


def test_tuning_is_passed_on() -> None:
    source = builders.superblock(
        max_mount_count=30,
        check_interval=15552000,
        errors_behaviour=2,
        reserved_uid=7,
        reserved_gid=8,
        hash_version=5,
        mount_options="data=ordered",
        default_mount_options=frozenset({"acl", "journal_data_writeback"}),
    )
    said = words(make.tune2fs_arguments(source, source.blocks * 2))
    assert said["-r"] == str(source.reserved_blocks * 2)
    assert (said["-c"], said["-i"], said["-e"]) == ("30", "15552000s", "remount-ro")
    assert (said["-u"], said["-g"]) == ("7", "8")
    assert said["-E"] == "mount_opts=data=ordered,hash_alg=tea"
    options = said["-o"].split(",")
    assert "acl" in options
    assert "^user_xattr" in options
    assert "journal_data_writeback" in options
    assert "^journal_data" not in options


@given(builders.superblocks())
def test_what_tunes_alike_is_tuned_alike(source: Superblock) -> None:
    """`tuning` has every field that `tune2fs_arguments` passes on, but for sizes."""
    for name in ("max_mount_count", "check_interval", "errors_behaviour", "reserved_uid"):
        other = builders.superblock(**{**vars(source), name: 3})
        same = make.tune2fs_arguments(source, 100) == make.tune2fs_arguments(other, 100)
        assert (make.tuning(source) == make.tuning(other)) == same


# --- against the real one -----------------------------------------------------------------


def really_made(source: Superblock, size: int, path: Path) -> Superblock | None:
    """A filesystem like `source`, made on a sparse file of `size` bytes; None if refused."""
    with path.open("wb") as file:
        file.truncate(size)
    arguments = make.mke2fs_arguments(source, make.shape(source, size), str(path))
    environment = {**os.environ, "MKE2FS_CONFIG": "/dev/null"}
    try:
        result = subprocess.run(arguments, env=environment, capture_output=True, check=False)
        with path.open("rb") as file:
            file.seek(superblock.OFFSET)
            data = file.read(superblock.SIZE)
        return None if result.returncode else superblock.parse(data)
    finally:
        path.unlink()


@given(
    builders.superblocks(most=1 << 31),
    st.fractions(0, 1),
    st.fractions(0, 1),
    st.sampled_from((10, 10, 11, 15)),
)
@settings(max_examples=120)
def test_the_room_that_was_promised_is_there(
    tmp_path_factory: pytest.TempPathFactory,
    like: Superblock,
    full: Fraction,
    crowded: Fraction,
    tenths: int,
) -> None:
    """On the smallest destination mke2fs makes it, with room for the files of a real source."""
    path = tmp_path_factory.mktemp("room") / "image"
    fresh = really_made(like, like.size, path)
    assume(fresh is not None)
    assert fresh is not None
    contents, files = int(fresh.free_blocks * full), int(fresh.free_inodes * crowded)
    source = dataclasses.replace(
        fresh, free_blocks=fresh.free_blocks - contents, free_inodes=fresh.free_inodes - files
    )
    size = make.smallest(source) * tenths // 10
    there = really_made(source, size, path)
    assert there is not None, f"mke2fs cannot make it on {size} bytes"
    assert there.free_blocks >= contents
    assert there.free_inodes >= files
    assert there.block_size == source.block_size
    assert there.features - {"large_file"} == make.features(source) - {"large_file"}
