# SPDX-License-Identifier: GPL-2.0-only
"""Damaged superblocks and tables through the parsers and the planner alone: 3,000 cases.

Nothing is spawned here, so that there can be many; `test_fuzz_tools` has the real tools.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutations import Damage, damaged, dos_damage, dos_disk, ext_disk, sb_damage, values

from bsync import run as gateway
from bsync.acquire.backing import BackingExtent
from bsync.acquire.block import Device
from bsync.errors import BsyncError
from bsync.explain import plan_data, side_data
from bsync.filesystems.ext import make, marker, superblock
from bsync.filesystems.ext.superblock import Ext
from bsync.filesystems.reiserfs import by_files as reiserfs
from bsync.filesystems.reiserfs.kind import read as read_reiserfs
from bsync.model.layout import Blank, Extent, Side, bare
from bsync.plan import Options, make_plan
from bsync.run import Completed
from bsync.screen.layouts import layout_text
from bsync.screen.plans import plan_text
from bsync.survey import filesystem, survey, table

Image = Callable[[Path], None]


@pytest.fixture(autouse=True)
def _no_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(argv: tuple[str, ...], *_: object) -> None:
        raise AssertionError(f"spawned {argv}")

    monkeypatch.setattr(gateway, "_spawn", refuse)


def real(folder: Path, make_image: Image) -> bytes:
    image = folder / "image"
    make_image(image)
    return image.read_bytes()


def show_and_plan(side: Side) -> None:
    """Everything that happens to a survey before anything is written."""
    layout_text(side)
    json.dumps(side_data(side))
    size = side.layout.size
    blanks = [
        Side("blank", "file", bare(room, 512, Blank())) for room in (size, size // 2, 4 * size)
    ]
    raw = Options(raw=True)
    cases = [(side, side, raw), (side, blanks[0], Options()), (blanks[0], side, raw)]
    cases += [(side, blank, raw) for blank in blanks]
    for source, destination, options in cases:
        with contextlib.suppress(BsyncError):
            plan = make_plan(source, destination, options)
            plan_text(plan)
            json.dumps(plan_data(plan))


# --- superblocks --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good_superblock(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return real(tmp_path_factory.mktemp("ext"), ext_disk)[1024:2048]


@given(sb_damage(0), st.integers(0, 1 << 40))
@settings(max_examples=1500)
def test_superblocks(good_superblock: bytes, damage: list[Damage], size: int) -> None:
    try:
        sb = superblock.parse(damaged(good_superblock, damage))
    except superblock.BadSuperblock:
        return
    assert 0 <= sb.used <= sb.size
    assert 0 <= sb.used_inodes <= sb.inodes
    assert sb.groups > 0
    made = make.shape(sb, size)
    assert all(isinstance(word, str) and "\0" not in word for word in (
        *make.mke2fs_arguments(sb, made, "x"), *make.tune2fs_arguments(sb, made.blocks),
        *marker.marking(sb, sb), *(word for words in marker.completing(sb, sb) for word in words),
    ))  # fmt: skip
    make.fits(sb, size)
    make.smallest(sb)
    show_and_plan(Side("fuzzed", "file", bare(sb.size, 512, Ext("ext4", sb))))


@given(
    st.binary(min_size=204, max_size=204),
    st.sampled_from((b"ReIsErFs", b"ReIsEr2Fs", b"ReIsEr3Fs")),
    st.sampled_from((512, 4096, 8192, 3)), st.sampled_from((0, 2, 7)), st.integers(0, 1 << 40),
)  # fmt: skip
@settings(max_examples=500)
def test_reiserfs_superblocks(
    data: bytes, magic: bytes, block_size: int, version: int, size: int
) -> None:
    words = [(44, block_size.to_bytes(2, "little")), (50, b"\1\0"), (52, magic.ljust(12, b"\0")),
             (72, version.to_bytes(2, "little"))]  # fmt: skip
    for at, piece in words:
        data = data[:at] + piece + data[at + len(piece) :]
    try:
        found = read_reiserfs("reiserfs", bytes(65536) + data)
    except superblock.BadSuperblock:
        return
    assert 0 <= found.used <= found.size
    for command in (
        reiserfs.making(found, size, "x"), *reiserfs.unmarking(found, found, "x"),
    ):  # fmt: skip
        assert all("\0" not in word for word in command)
    reiserfs.fits(found, size)
    assert reiserfs.smallest(found) > 0
    show_and_plan(Side("fuzzed", "file", bare(found.size, 512, found)))


# --- tables -------------------------------------------------------------------------------


class InMemory(Device):
    """An image in memory, described by somebody who is not sfdisk."""

    data: bytes
    table: str

    @property
    def room(self) -> None:
        """Nobody asks an image in memory for more room."""

    def read(self, offset: int, size: int) -> bytes:
        assert offset >= 0
        return self.data[offset : offset + size]

    def run(self, *argv: str, **_: object) -> Completed:
        if argv[0] == "sfdisk":
            return Completed(0, self.table, "")
        return Completed(0, "ID_PART_TABLE_TYPE=dos\n" if "0" in argv else "", "")


def in_memory(data: bytes, table_text: str) -> InMemory:
    size = len(data)
    device = InMemory(
        "fuzzed", "DEVICE", -1, size, 512, "file", BackingExtent("x", Extent(0, size))
    )
    object.__setattr__(device, "data", data)
    object.__setattr__(device, "table", table_text)
    return device


@contextlib.contextmanager
def answering(device: InMemory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        for module in (table, filesystem):
            patch.setattr(module, "run", device.run)
        yield


def entries(data: bytes, at: int) -> list[tuple[int, int, int]]:
    found = []
    for index in range(4):
        entry = data[at + 446 + 16 * index : at + 462 + 16 * index]
        start, size = (int.from_bytes(entry[k : k + 4], "little") for k in (8, 12))
        found.append((start, size, entry[4] if entry else 0))
    return found


def credulous(data: bytes) -> str:
    """The table as a reader that checks nothing would tell it."""
    rows = []
    for number, (start, size, kind) in enumerate(entries(data, 0), 1):
        if kind:
            rows.append(_row(number, start, size, kind))
        at = start
        for logical in range(5, 9):
            if kind not in (5, 15, 133) or not 0 <= at * 512 < len(data):
                break
            (offset, length, type_), (link, _, more), *_ = entries(data, at * 512)
            if type_ and length:
                rows.append(_row(logical, at + offset, length, type_))
            if more not in (5, 15, 133):
                break
            at = start + link
    facts = {"label": "dos", "id": "0x1", "device": "DEVICE", "sectorsize": 512}
    return json.dumps({"partitiontable": {**facts, "partitions": rows}})


def _row(number: int, start: int, size: int, kind: int) -> dict[str, object]:
    return {"node": f"DEVICE{number}", "start": start, "size": size, "type": f"{kind:x}"}


@pytest.fixture(scope="module")
def good_dos(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return real(tmp_path_factory.mktemp("dos"), dos_disk)


@given(dos_damage())
@settings(max_examples=800)
def test_chains_of_records(good_dos: bytes, damage: list[Damage]) -> None:
    data = damaged(good_dos, damage)
    device = in_memory(data, credulous(data))
    with answering(device):
        side = survey(device)
    show_and_plan(side)


def test_the_undamaged_table_is_understood(good_dos: bytes) -> None:
    """Or the tests above would only ever see a refusal."""
    device = in_memory(good_dos, credulous(good_dos))
    with answering(device):
        assert "dos table" in layout_text(survey(device))


def described(good_dos: bytes, told: dict[str, Any]) -> str:
    device = in_memory(good_dos, json.dumps({"partitiontable": told}))
    with answering(device):
        return layout_text(survey(device))


@pytest.mark.parametrize("number", [5, 6])
@pytest.mark.parametrize("change", ["start", "size", "gone"])
def test_a_chain_that_reads_in_two_ways_is_no_table(
    good_dos: bytes, number: int, change: str
) -> None:
    """Kernels and tools differ in how they follow a strange chain; a mirror must not guess."""
    told = json.loads(credulous(good_dos))["partitiontable"]
    rows = told["partitions"]
    row = next(row for row in rows if row["node"] == f"DEVICE{number}")
    if change == "gone":
        rows.remove(row)
    else:
        row[change] -= 8
    assert "disagree on the chain" in described(good_dos, told)


@pytest.mark.parametrize(
    ("number", "changes", "said"),
    [
        (1, {"start": 0}, "covers the table itself"),
        (1, {"start": -1}, "ends beyond the disk"),
        (1, {"size": 1 << 60}, "ends beyond the disk"),
        (1, {"size": 6145 + 2048}, "overlap|lies in partition 1"),
        (5, {"start": 8192}, "outside the extended one|disagree on"),
        (6, {"size": 14336}, "ends beyond the disk|outside the extended one"),
        (6, {"start": 10240}, "overlap|disagree on"),
        (1, {"node": "elsewhere"}, "unexpected output"),
    ],
)
def test_impossible_partitions_are_no_table(
    good_dos: bytes, number: int, changes: dict[str, Any], said: str
) -> None:
    told = json.loads(credulous(good_dos))["partitiontable"]
    row = next(row for row in told["partitions"] if row["node"] == f"DEVICE{number}")
    row |= changes
    text = described(good_dos, told)
    assert "a damaged dos partition table" in text
    assert re.search(said, text), text


# --- what sfdisk may say ------------------------------------------------------------------

_ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=5), values(8),
              st.integers(-9, 9)),
    lambda inner: st.one_of(st.lists(inner, max_size=3),
                            st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)  # fmt: skip
_KEYS = st.sampled_from(
    ("label", "id", "device", "unit", "firstlba", "lastlba", "table-length", "sectorsize",
     "partitions")
)  # fmt: skip
_PART_KEYS = st.sampled_from(("node", "start", "size", "type", "uuid", "name", "attrs", "bootable"))


@given(
    st.dictionaries(_KEYS, _ANYTHING, max_size=3),
    st.dictionaries(_PART_KEYS, _ANYTHING, max_size=3),
    st.sampled_from(("dos", "gpt", "atari")),
)
@settings(max_examples=700)
def test_whatever_sfdisk_says(
    good_dos: bytes, facts: dict[str, Any], row: dict[str, Any], label: str
) -> None:
    told = json.loads(credulous(good_dos))["partitiontable"]
    told["partitions"][0] |= row
    text = json.dumps({"partitiontable": {**told, "label": label, **facts}})
    device = in_memory(good_dos, text)
    with answering(device):
        try:
            side = survey(device)
        except BsyncError:
            return
    show_and_plan(side)


@given(st.one_of(st.text(), _ANYTHING.map(json.dumps)))
@settings(max_examples=150)
def test_sfdisk_may_say_no_json_at_all(text: str) -> None:
    device = in_memory(bytes(1 << 20), text)
    with answering(device):
        survey(device)
