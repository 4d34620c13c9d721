# SPDX-License-Identifier: GPL-2.0-only
"""The marker of an incomplete mirror."""

from __future__ import annotations

import uuid

import builders
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bsync.filesystems.ext import marker

UUIDS = st.uuids().map(str)


@given(UUIDS, UUIDS)
def test_the_uuid_tells_whose_mirror_it_is(one: str, other: str) -> None:
    derived = marker.marker_uuid(one)
    assert derived == str(uuid.UUID(derived))
    assert derived != one
    assert (marker.marker_uuid(other) == derived) == (one == other)


def test_the_uuid_never_changes_between_versions() -> None:
    """The next release has to know the unfinished mirrors of this one."""
    assert marker.marker_uuid(builders.UUID) == "bbebb52a-596f-5a23-b75d-c7b6e3dd60ce"


def test_the_label_just_fits() -> None:
    assert len(marker.LABEL.encode()) == 16


def test_who_is_marked() -> None:
    source = builders.superblock()
    unfinished = builders.marked(builders.ext()).superblock
    early = builders.superblock(label=marker.LABEL)  # the label first, the UUID after it
    foreign = builders.superblock(label=marker.LABEL, uuid=builders.OTHER)
    assert not marker.is_marked(source)
    assert marker.is_marked(unfinished)
    assert marker.is_incomplete_clone(unfinished, source)
    assert marker.is_incomplete_clone(early, source)
    assert not marker.is_incomplete_clone(foreign, source)
    assert not marker.is_incomplete_clone(source, source)


@pytest.mark.parametrize("summed", [False, True])
def test_marking_and_completing_are_each_others_inverse(summed: bool) -> None:
    features = builders.PLAIN | ({"metadata_csum"} if summed else set())
    source = builders.superblock(features=features)
    marking = marker.marking(source, source)
    assert marking[-2:] == ["-U", marker.marker_uuid(source.uuid)]
    assert ("metadata_csum_seed" in marking) == summed
    seeded = builders.superblock(
        features=features | ({"metadata_csum_seed"} if summed else set()), label=marker.LABEL
    )
    completing = marker.completing(source, seeded)
    assert completing[0] == ["-U", source.uuid]
    assert (["-O", "^metadata_csum_seed"] in completing) == summed
    assert completing[-1] == ["-L", source.label], "the label has to go last"


def test_a_seed_of_the_source_stays() -> None:
    features = builders.MODERN | {"metadata_csum_seed"}
    source = builders.superblock(features=features)
    assert "-O" not in marker.marking(source, source)
    assert all("-O" not in words for words in marker.completing(source, source))
