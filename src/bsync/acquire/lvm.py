# SPDX-License-Identifier: GPL-2.0-only
"""Snapshots of logical volumes: to read a volume at one moment, or to write it all or nothing.

As a source, a snapshot holds still while its volume goes on being written.  As a destination it
is a transaction: everything is written to the snapshot, which is merged into its origin at
success and dropped at failure.  Thin volumes get thin snapshots.

A snapshot outlives a reboot, the ledger does not: so it bears a tag with this machine's and the
run's id, by which `recover` finds it.
Interface: lvcreate(8), lvconvert(8), lvs(8) with `--reportformat json`.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from bsync.errors import BsyncError, CopyFailed, InUse, Unavailable, Unreleased
from bsync.ledger import Facts, Ledger
from bsync.locate import LvmSnapshot
from bsync.run import installed, require, run
from bsync.units import Share, both_sizes, size_text

_TAG = "bsync"
_FIELDS = (
    "vg_name", "lv_name", "lv_size", "lv_dm_path", "lv_layout", "lv_device_open", "lv_tags",
    "data_percent", "lv_snapshot_invalid", "vg_free", "vg_extent_size", "origin", "vg_uuid",
    "lv_merging", "lv_attr",
)  # fmt: skip
_PATIENCE = 10.0  # seconds for a snapshot to become idle
_POLLED = 60.0  # seconds for a merge to go on: LVM looks at it every 15
_WATCH = 2.0  # seconds between two looks at its fill level
_NEARLY_FULL = 80.0  # per cent


@dataclass(frozen=True)
class Volume:
    """A logical volume as lvs(8) reports it; sizes in bytes."""

    vg: str
    lv: str
    size: int
    path: str
    thin: bool
    open: bool
    tags: frozenset[str]
    full: float  # per cent of a snapshot's room, or of a thin volume's data
    invalid: bool  # a snapshot that overflowed
    free: int  # what the group has free
    extent: int  # the group's unit of allocation
    origin: str  # of a snapshot; empty otherwise
    group: str  # the UUID of the volume group
    merging: bool  # a snapshot that is becoming its origin

    @property
    def name(self) -> str:
        return f"{self.vg}/{self.lv}"


class Snapshot:
    """A snapshot of ours, known by its tag."""

    kind: ClassVar[str] = "lvm-snapshot"

    def __init__(self, vg: str, name: str, tag: str, creation: tuple[str, ...] = ()) -> None:
        self.vg = vg
        self.name = name
        self.tag = tag
        self._creation = creation
        self.committed = False  # what is in it shall be merged into the origin

    @classmethod
    def from_facts(cls, facts: Facts) -> Snapshot:
        return cls(str(facts["vg"]), str(facts["name"]), str(facts["tag"]))

    def facts(self) -> Facts:
        return {"vg": self.vg, "name": self.name, "tag": self.tag}

    def acquire(self) -> None:
        run("lvcreate", *self._creation, failure=Unavailable, critical=True)

    def release(self) -> None:
        """Drop it, if it is there and bears our tag; one being merged is merged to its end."""
        deadline = time.monotonic() + _PATIENCE
        while (there := self.look()) is not None:
            if there.merging:
                _end_merge(self, there)
                return
            result = run(
                "lvremove", "--yes", there.name, ok=range(256), failure=Unreleased, critical=True
            )
            if result.status and time.monotonic() > deadline:
                words = " ".join(result.errors.split())
                raise Unreleased(f"the snapshot {there.name} cannot be removed: {words}")
            if result.status:
                time.sleep(0.2)

    def commit(self) -> None:
        """What is in it is merged into the origin at the end."""
        self.committed = True

    def look(self) -> Volume | None:
        """The snapshot as it is now; None if there is none of ours by that name."""
        found = _volumes("--all", "--select", f"vg_name={self.vg}")
        ours = (one for one in found if one.lv == self.name and self.tag in one.tags)
        return next(ours, None)

    def check(self) -> None:
        """Raise `CopyFailed` if the snapshot has overflowed: what was read of it is worthless."""
        there = self.look()
        if there is None:
            raise CopyFailed(f"the snapshot {self.vg}/{self.name} is gone")
        if there.invalid or (there.origin and not there.thin and there.full >= 100):
            raise CopyFailed(
                f"the snapshot of {size_text(there.size)} overflowed: more was written meanwhile "
                "than it has room for",
                f"extend {there.vg} with vgextend, for a larger one"
                if there.free < there.size // 4
                else "give it more with --snapshot-size, or run when less is written",
            )

    def merge(self) -> None:
        """Make the origin what the snapshot is.  Raises `CopyFailed`."""
        command = ("lvconvert", "--merge", "--interval", "1", "--yes", f"{self.vg}/{self.name}")
        try:
            run(*command, critical=True)
        except CopyFailed:  # somebody may have ended it, before the merge began or after that
            there = self.look()
            if there is not None and there.merging:
                _end_merge(self, there)
            elif there is not None:
                run(*command, critical=True)
        if self.look() is not None:
            raise CopyFailed(
                f"{self.vg}/{self.name} is not merged yet, since its origin is in use",
                "it will be when the volume is next activated",
            )


def _end_merge(snapshot: Snapshot, there: Volume) -> None:
    """See a merge to its end, whatever became of the program that began it: as long as it goes on,
    or for `_POLLED` seconds.  Raises `Unreleased`."""
    origin = f"{there.vg}/{there.origin}"
    run("lvchange", "--poll", "y", origin, ok=range(256), failure=Unreleased, critical=True)
    deadline, left = time.monotonic() + _POLLED, there.full
    while (now := snapshot.look()) is not None:
        if now.full != left:
            deadline, left = time.monotonic() + _POLLED, now.full
        if time.monotonic() > deadline:
            raise Unreleased(
                f"the snapshot {there.name} is not merged into {origin} yet",
                f"unmount {origin}, then: lvchange --poll y {origin}",
            )
        time.sleep(0.2)


@contextlib.contextmanager
def snapshot(
    ledger: Ledger,
    locator: LvmSnapshot,
    *,
    transaction: bool,
    size: Share,
    notice: Callable[[str], None],
) -> Iterator[tuple[Snapshot, Volume, Volume]]:
    """A snapshot for the block, with its volume and its origin as they were at the beginning.

    With `transaction` it is merged at the end of a block that ends well, if it was
    committed meanwhile.  `size`: for what changes (classic snapshots only).
    `notice` hears when it is nearly full.  Raises `Unavailable`, `InUse`.
    """
    below = origin(locator)
    if below.merging:
        raise InUse(
            f"a snapshot is being merged into {below.name}",
            f"wait for its end; where it does not go on: lvchange --poll y {below.name}",
        )
    if transaction and below.open:
        raise InUse(f"{below.name} is in use", "unmount it first")
    tag = f"{_TAG}.{machine()}.{ledger.run}"
    name = f"bsync-{ledger.run}-{'destination' if transaction else 'source'}"
    room = 0 if below.thin else _room(below, size.of(below.size), transaction)
    creation = _creation(below, name, tag, room)
    with ledger.holding(Snapshot(below.vg, name, tag, creation)) as made:
        volume = made.look()
        if volume is None:
            raise Unavailable(f"the snapshot {below.vg}/{name} did not appear")
        with _watched(made, notice) if not below.thin else contextlib.nullcontext():
            yield made, volume, below
        if transaction and made.committed:
            made.merge()


def orphans(alive: frozenset[str]) -> list[Snapshot]:
    """This machine's snapshots whose runs are not among `alive` (run ids)."""
    if not installed("lvs"):
        return []
    prefix = f"{_TAG}.{machine()}."
    return [
        Snapshot(volume.vg, volume.lv, tag)
        for volume in _volumes("--all")
        for tag in sorted(volume.tags)
        if tag.startswith(prefix) and tag.removeprefix(prefix) not in alive
    ]


def machine() -> str:
    """What tells this machine from others that may see the same volume group."""
    with contextlib.suppress(OSError):
        if found := Path("/etc/machine-id").read_text().strip():
            return found[:12]
    return "".join(c if c.isalnum() else "-" for c in socket.gethostname()) or "localhost"


def origin(locator: LvmSnapshot) -> Volume:
    """The volume that `locator` names.  Raises `Unavailable`."""
    require(["lvs", "lvcreate"])
    found = _volumes("--select", f"vg_name={locator.vg} && lv_name={locator.lv}")
    if len({volume.group for volume in found}) > 1:
        raise Unavailable(
            f"{locator}: {len(found)} volume groups are called {locator.vg}",
            "rename one by its UUID: vgs -o name,uuid; vgrename UUID NAME",
        )
    if len(found) != 1:
        raise Unavailable(f"{locator}: there is no such volume", "lvs shows what there is")
    return found[0]


def _volumes(*which: str) -> list[Volume]:
    """What lvs(8) reports.  Raises `Unavailable`."""
    result = run(
        "lvs", "--reportformat", "json", "--units", "b", "--nosuffix", "--binary",
        "--options", ",".join(_FIELDS), *which, failure=Unavailable,
    )  # fmt: skip
    try:
        return [_volume(row) for part in json.loads(result.output)["report"] for row in part["lv"]]
    except (ValueError, KeyError, TypeError):
        raise Unavailable("unexpected output from lvs") from None


def _volume(row: dict[str, str]) -> Volume:
    return Volume(
        vg=row["vg_name"],
        lv=row["lv_name"].strip("[]"),
        size=int(row["lv_size"]),
        path=row["lv_dm_path"],
        thin={"thin", "sparse"} <= set(row["lv_layout"].split(",")),
        open=row["lv_device_open"] == "1",
        tags=frozenset(filter(None, row["lv_tags"].split(","))),
        full=float(row["data_percent"] or 0),
        invalid=row["lv_snapshot_invalid"] == "1",
        free=int(row["vg_free"]),
        extent=int(row["vg_extent_size"]),
        origin=row["origin"].strip("[]"),
        group=row["vg_uuid"],
        merging=row["lv_merging"] == "1" or row["lv_attr"].startswith("S"),
    )


def _room(origin: Volume, size: int, transaction: bool) -> int:
    """Bytes for a classic snapshot: as asked for, or a fifth of the origin (all of it, and what
    the snapshot needs for itself, where everything may be written), or what the group has."""
    whole = origin.size + origin.size // 64 + 4 * origin.extent
    wanted = size or (whole if transaction else origin.size // 5)
    rounded = -(-min(wanted, whole) // origin.extent) * origin.extent
    if size and rounded > origin.free:
        asked, free = both_sizes(rounded, origin.free)
        raise Unavailable(f"a snapshot of {asked} was asked for, {origin.vg} has {free} free")
    room = min(rounded, origin.free // origin.extent * origin.extent)
    if room <= 0:
        raise Unavailable(f"{origin.vg} has no room for a snapshot", "extend it: vgextend")
    return room


def _creation(origin: Volume, name: str, tag: str, room: int) -> tuple[str, ...]:
    """The arguments of lvcreate(8)."""
    how = ("--setactivationskip", "n") if origin.thin else ("--size", f"{room}b")
    return (
        "--snapshot",
        "--yes",
        "--monitor",
        "n",
        "--name",
        name,
        "--addtag",
        tag,
        *how,
        origin.name,
    )


@contextlib.contextmanager
def _watched(made: Snapshot, notice: Callable[[str], None]) -> Iterator[None]:
    """Look at the fill level from time to time, and say so once when it is high."""
    ended = threading.Event()
    watcher = threading.Thread(target=_watch, args=(made, notice, ended), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


def _watch(made: Snapshot, notice: Callable[[str], None], ended: threading.Event) -> None:
    while not ended.wait(_WATCH):
        with contextlib.suppress(BsyncError):
            there = made.look()
            if there is not None and there.full >= _NEARLY_FULL:
                notice(f"the snapshot {there.name} is {there.full:.0f} % full")
                return
