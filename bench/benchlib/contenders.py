# SPDX-License-Identifier: GPL-2.0-only
"""The programs that compete, each with its way to clone one image into another."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchlib import direct_copy
from benchlib.disks import attached, mounted, mounted_image
from benchlib.luns import attached_lun
from benchlib.proc import find_program, run
from benchlib.results import Standing
from bsync.engines import rsync

BSYNC = "bsync"
BSYNC_FILES = "bsync --engine files"
PLAIN_COPY = "plain direct copy"
RSYNC_PLAIN = "rsync -aHAX"
RSYNC_AS_BSYNC = "rsync (as bsync runs it)"

# What bsync itself runs, taken from its source.
BSYNC_RSYNC = (*rsync.OPTIONS, "--info=progress2", "--stats")
BSYNC_MKFS = ("mkfs.ext4", "-q", "-F")
BSYNC_MOUNT = "rw,noatime"

PLAIN_RSYNC = ("-aHAX",)
PLAIN_MKFS = ("mkfs.ext4", "-q", "-F")
PLAIN_MOUNT = "rw"

INITIATOR = ("qemu-storage-daemon", "tgtd", "tgtadm")

# Those that fill the target, and those that need room for an archive besides.
WHOLE = frozenset({"dd"})
ARCHIVING = frozenset({"fsarchiver"})

ROOT_TIME = ".d..t...... ./"


@dataclass(frozen=True)
class Job:
    """From which image to which, and where to put mount points and other files."""

    source: Path
    used_bytes: int  # The blocks that the source uses.
    target: Path
    scratch: Path
    lun: str = ""  # The target's locator where it is behind an iSCSI portal.


# Runs one clone, and returns the seconds that the copying program alone took.
Action = Callable[[Job], float]


@dataclass(frozen=True)
class Contender:
    """One way to clone: `first` into an empty image, `again` into an earlier clone.

    Those that can only copy everything have no `again`: it would cost the same as the first time.
    """

    name: str
    programs: tuple[str, ...]
    first: Action
    again: Action | None
    note: str
    standing: Standing = Standing.OTHER
    # Differences, as rsync itemizes them, that are this program's known shortcomings.
    tolerated: tuple[str, ...] = ()

    def missing(self) -> list[str]:
        """Programs it needs that this machine does not have."""
        return [Path(each).name for each in self.programs if find_program(each) is None]


@dataclass(frozen=True)
class TreeCopy:
    """Copies between mounts of its own, as one would by hand."""

    command: tuple[str, ...]
    mkfs: tuple[str, ...]
    mount: str
    fresh: bool
    contents_suffix: str = "/"

    def __call__(self, job: Job) -> float:
        """Copy the tree, after mkfs where the target is to be fresh."""
        with (
            mounted_image(job.source, job.scratch, read_only=True) as source,
            attached(job.target) as device,
        ):
            if self.fresh:
                run([*self.mkfs, device])
            with mounted(device, job.scratch, self.mount) as target:
                command = [*self.command, f"{source}{self.contents_suffix}", f"{target}/"]
                return run(command).seconds


@contextlib.contextmanager
def _devices(job: Job) -> Iterator[tuple[Path, Path]]:
    with attached(job.source, read_only=True) as source, attached(job.target) as target:
        yield source, target


def _dd(job: Job) -> float:
    with _devices(job) as (source, target):
        return run(["dd", f"if={source}", f"of={target}", "bs=8M", "status=none"]).seconds


def _partclone(job: Job) -> float:
    log = job.scratch / "partclone.log"
    with _devices(job) as (source, target):
        command = ("partclone.ext4", "-b", "-q", "-L", str(log))
        return run([*command, "-s", str(source), "-o", str(target)]).seconds


def _e2image(options: str) -> Action:
    def clone(job: Job) -> float:
        with _devices(job) as (source, target):
            return run(["e2image", options, source, target]).seconds

    return clone


def _fsarchiver(job: Job) -> float:
    archive = job.scratch / "archive.fsa"
    command = ("fsarchiver", "-o", "-j", str(os.cpu_count() or 1), "-z", "0")
    try:
        with _devices(job) as (source, target):
            save = run([*command, "savefs", str(archive), str(source)])
            restore = run([*command, "restfs", str(archive), f"id=0,dest={target}"])
    finally:
        archive.unlink(missing_ok=True)
    return save.seconds + restore.seconds


def _plain_copy(job: Job) -> float:
    program = (sys.executable, direct_copy.__file__)
    return run([*program, job.source, job.target, str(job.used_bytes)]).seconds


def _bsync(name: str, program: str, *options: str) -> Contender:
    def clone(job: Job) -> float:
        with _devices(job) as (source, target):
            return run([program, *options, "--yes", source, target]).seconds

    words = " ".join(("bsync", *options, "--yes"))
    note = f"`{words} SRC DEST` on the loop devices"
    return Contender(name, (program,), clone, clone, note, Standing.OURS)


def _rsync_plain() -> Contender:
    command = ("rsync", *PLAIN_RSYNC)
    return Contender(
        RSYNC_PLAIN,
        ("rsync",),
        TreeCopy(command, PLAIN_MKFS, PLAIN_MOUNT, fresh=True),
        TreeCopy((*command, "--delete"), PLAIN_MKFS, PLAIN_MOUNT, fresh=False),
        "first: mkfs, mounts, rsync, umount; later: mounts, rsync `--delete`, umount",
    )


def _rsync_as_bsync() -> Contender:
    command = ("rsync", *BSYNC_RSYNC)
    return Contender(
        RSYNC_AS_BSYNC,
        ("rsync",),
        TreeCopy(command, BSYNC_MKFS, BSYNC_MOUNT, fresh=True),
        TreeCopy(command, BSYNC_MKFS, BSYNC_MOUNT, fresh=False),
        f"the same steps with `rsync {' '.join(BSYNC_RSYNC)}`",
    )


def _cp() -> Contender:
    copy = TreeCopy(("cp", "-a"), PLAIN_MKFS, PLAIN_MOUNT, fresh=True, contents_suffix="/.")
    return Contender(
        "cp -a", ("cp",), copy, None, "mkfs, mounts, cp, umount; it cannot update a clone"
    )


def main_contenders(bsync: str) -> tuple[Contender, ...]:
    """Those that are measured side by side, in the order in which they run."""
    dd_note = "`bs=8M`; it copies the whole device"
    partclone_note = "`-b`, device to device; it copies all used blocks"
    e2image_note = "first `-ra`; later `-rac`, which reads both and writes the blocks that differ"
    fsarchiver_note = (
        "savefs `-z 0` to an archive, then restfs: the sum of both; "
        "it does not restore the root directory's time"
    )
    fsarchiver = Contender(
        "fsarchiver",
        ("fsarchiver",),
        _fsarchiver,
        None,
        fsarchiver_note,
        tolerated=(ROOT_TIME,),
    )
    plain_note = (
        f"as many bytes as the source uses, image to image, `O_DIRECT`, "
        f"pieces of {direct_copy.PIECE >> 20} MiB: no clone, but what a clone costs at best"
    )
    return (
        _bsync(BSYNC, bsync),
        Contender(PLAIN_COPY, (sys.executable,), _plain_copy, None, plain_note, Standing.YARDSTICK),
        _rsync_plain(),
        _cp(),
        Contender("dd", ("dd",), _dd, None, dd_note),
        Contender("partclone.ext4", ("partclone.ext4",), _partclone, None, partclone_note),
        Contender("e2image", ("e2image",), _e2image("-ra"), _e2image("-rac"), e2image_note),
        fsarchiver,
    )


def files_contenders(bsync: str) -> tuple[Contender, ...]:
    """bsync by files, and the rsync that it runs."""
    return _bsync(BSYNC_FILES, bsync, "--engine", "files"), _rsync_as_bsync()


def _bsync_to_lun(program: str) -> Contender:
    def clone(job: Job) -> float:
        with attached(job.source, read_only=True) as source:
            return run([program, "--yes", source, job.lun]).seconds

    note = "`bsync --yes SRC iscsi://127.0.0.1:PORT/IQN`"
    return Contender(BSYNC, (program, *INITIATOR), clone, clone, note, Standing.OURS)


@dataclass(frozen=True)
class LunCopy:
    """rsync onto the mounted LUN, attached as bsync attaches it."""

    fresh: bool

    def __call__(self, job: Job) -> float:
        """Copy the tree, after mkfs where the target is to be fresh."""
        with (
            mounted_image(job.source, job.scratch, read_only=True) as source,
            attached_lun(job.lun) as device,
        ):
            if self.fresh:
                run([*PLAIN_MKFS, device])
            with mounted(device, job.scratch, PLAIN_MOUNT) as target:
                options = () if self.fresh else ("--delete",)
                return run(["rsync", *PLAIN_RSYNC, *options, f"{source}/", f"{target}/"]).seconds


def lun_contenders(bsync: str) -> tuple[Contender, ...]:
    """Those that clone onto a LUN, in the order in which they run."""
    note = "the LUN attached as bsync attaches it, then the same steps as on a loop device"
    programs = ("rsync", *INITIATOR)
    rsync_copy = Contender(RSYNC_PLAIN, programs, LunCopy(fresh=True), LunCopy(fresh=False), note)
    return _bsync_to_lun(bsync), rsync_copy
