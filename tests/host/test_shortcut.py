# SPDX-License-Identifier: GPL-2.0-only
"""The way past FUSE to a daemon's storage, beside the way through it."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from exports import BLOCK, SIZE, block, got, ledger_in, loop_over, put
from lab import Lab, digest
from loopback_target import serving

from bsync.acquire import nbd
from bsync.acquire.iscsi_user import attached
from bsync.acquire.nbd import Shortcut
from bsync.acquire.storage_daemon import Export, Node, StorageDaemon, exported
from bsync.acquire.tagged import tagged
from bsync.errors import CopyFailed, Unavailable
from bsync.locate import IscsiLun, parse

BLOCKS = SIZE // BLOCK


@pytest.fixture
def image(lab: Lab) -> Path:
    return lab.image("lun", SIZE)


@contextlib.contextmanager
def lun_of(lab: Lab, image: Path, *, writable: bool = True) -> Iterator[Export]:
    """The image as a LUN, attached in user space."""
    with serving(image) as target, ledger_in(lab) as ledger:
        locator = parse(target.word)
        assert isinstance(locator, IscsiLun)
        with attached(ledger, locator, None, writable=writable) as found:
            yield found.export


@pytest.fixture
def lun(lab: Lab, image: Path) -> Iterator[Export]:
    with lun_of(lab, image) as export:
        yield export


def shortcut_of(export: Export) -> Shortcut:
    assert export.shortcut is not None
    return export.shortcut


def test_both_ways_see_the_same(lun: Export) -> None:
    """Although the kernel has read, by both of its caches, what is overwritten past it."""
    shortcut = shortcut_of(lun)
    with (
        loop_over(lun.path, writable=True) as device,
        shortcut.channel() as channel,
        open(device, "r+b", buffering=0) as loop,
    ):
        for number in range(BLOCKS):
            assert os.pread(loop.fileno(), BLOCK, number * BLOCK) == bytes(BLOCK)
        for number in range(BLOCKS):
            put(channel, number, block(number))
        channel.flush()
        shortcut.forget(loop.fileno())
        for number in range(BLOCKS):
            assert os.pread(loop.fileno(), BLOCK, number * BLOCK) == block(number)
        part = block(7)[:100]  # of a page that has to be right, then
        os.pwrite(loop.fileno(), part, 3 * BLOCK + 50)
        os.fsync(loop.fileno())
        expected = block(3)[:50] + part + block(3)[150:]
        assert got(channel, 3) == expected


def test_many_threads_and_scattered_rooms(lun: Export, image: Path) -> None:
    with shortcut_of(lun).channel() as channel:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda number: put(channel, number, block(number)), range(BLOCKS)))
        channel.flush()
        first, gap, second = (np.zeros(size, np.uint8) for size in (BLOCK, 512, 512))
        views = [first.data, gap.data, second.data]
        assert channel.preadv(views, 5 * BLOCK) == BLOCK + 1024
        assert (first.tobytes(), second.tobytes()) == (block(5), block(6)[512:1024])
    contents = image.read_bytes()
    assert all(contents[n * BLOCK : (n + 1) * BLOCK] == block(n) for n in range(BLOCKS))


def test_more_than_a_server_takes_comes_in_parts(
    lun: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd, "_MOST", BLOCK // 2)
    with shortcut_of(lun).channel() as channel:
        assert channel.pwritev([memoryview(bytearray(block(1)))], 0) == BLOCK // 2
        room = bytearray(BLOCK)
        assert channel.preadv([memoryview(room)], 0) == BLOCK // 2
        assert bytes(room) == block(1)[: BLOCK // 2] + bytes(BLOCK // 2)
        rooms = [np.zeros(BLOCK // 4, np.uint8) for _ in range(3)]
        assert channel.preadv([room.data for room in rooms], 0) == BLOCK // 2
        assert not rooms[2].any()


def test_a_source_cannot_be_written(lab: Lab, image: Path) -> None:
    before = digest(image)
    with lun_of(lab, image, writable=False) as export, shortcut_of(export).channel() as channel:
        assert got(channel, 0) == bytes(BLOCK)
        with pytest.raises(PermissionError):
            put(channel, 0, block(0))
    assert digest(image) == before


def test_a_daemon_that_died_is_an_error(lab: Lab, image: Path) -> None:
    def use() -> None:
        with lun_of(lab, image) as export, shortcut_of(export).channel() as channel:
            put(channel, 0, block(0))
            for process in tagged(f"bsync-{export.path.parent.name}-1"):
                process.send(signal.SIGKILL)
            with pytest.raises(OSError, match=r"endpoint|Connection|pipe"):
                put(channel, 1, block(1))
            with pytest.raises(OSError, match="refused"):
                got(channel, 0)  # nor by another connection

    with pytest.raises(CopyFailed, match="the storage daemon ended"):
        use()


def test_a_socket_that_kept_its_name_is_removed(lab: Lab) -> None:
    """As it does when bsync is killed while the daemon is being started."""
    target = lab.folder / "export-1"
    for left in (target, lab.folder / "export-1.nbd"):
        left.touch()
    StorageDaemon.from_facts({"tag": "bsync-nobody", "target": str(target)}).release()
    assert not list(lab.folder.glob("export-1*"))


# --- where there is none, or it fails --------------------------------------------------------


def failing_flush(image: Path) -> Node:
    """An image that can be opened twice, and whose flush fails."""
    never = {"event": "none", "iotype": "flush", "errno": 5, "once": False}
    below = {"driver": "file", "filename": str(image), "locking": "off"}
    options: dict[str, object] = {"driver": "blkdebug", "image": below, "inject-error": [never]}
    return Node(str(image), options, Unavailable, twice=True)


def test_each_way_has_to_be_flushed_by_itself(lab: Lab, image: Path) -> None:
    with (
        ledger_in(lab) as ledger,
        exported(ledger, failing_flush(image), writable=True) as found,
        shortcut_of(found).channel() as channel,
    ):
        put(channel, 0, block(0))
        with found.path.open("rb") as file:
            os.fsync(file.fileno())  # nothing was written by this way
        with pytest.raises(OSError, match="Input/output"):
            channel.flush()


def test_what_admits_one_opening_only_has_none(lab: Lab, image: Path) -> None:
    options: dict[str, object] = {"driver": "file", "filename": str(image)}
    node = Node(str(image), options, Unavailable, twice=True)
    with ledger_in(lab) as ledger, exported(ledger, node, writable=True) as found:
        assert found.shortcut is None
        found.path.write_bytes(block(1))
    assert image.read_bytes()[:BLOCK] == block(1)


def test_without_libnbd_there_is_none(
    lab: Lab, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nbd, "library", lambda: None)
    with lun_of(lab, image) as export:
        assert export.shortcut is None
        assert export.path.stat().st_size == SIZE
