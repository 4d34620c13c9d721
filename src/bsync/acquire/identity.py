# SPDX-License-Identifier: GPL-2.0-only
"""What a disk is, whichever path leads to it: two portals of a target make two block devices.

A name that is unique in the world says it alone.  What a maker or an administrator keeps apart
by himself (T10 vendor names, locally assigned NAA names: tgt's, and LIO's without a serial) may
be another disk's elsewhere, even at the same target; there the target's name and the LUN say it.
Sources: the kernel's scsi_vpd_lun_id() and its sysfs attributes `wwid`; SPC-4 7.8.6 (VPD page 83h).
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

from bsync.acquire.holders import user_of
from bsync.errors import InUse

_BLOCK = Path("/sys/block")
_SESSIONS = Path("/sys/class/iscsi_session")
# Of a NAA name the six digits that follow are the maker's, whom nobody gave 000000: tgt has that.
_WORLDWIDE = re.compile(
    r"(naa\.2|naa\.[56](?!0{6})|eui\.|uuid\.|nvme\.|iqn\.)(?!0*$)", re.IGNORECASE
)


def identity(wwid: str, target: str = "", lun: int = 0) -> str:
    """What names the disk by every path, and no other disk; empty where nothing does.

    `target`: the iSCSI name of the target that serves it, if one does; case makes none another.
    """
    if _WORLDWIDE.match(wwid):
        return wwid.lower()
    return f"{target.lower()} LUN {lun}" if target else ""


def identity_of(disk: Path) -> str:
    """The identity of a whole disk, by its folder in sysfs."""
    wwid = fact(disk / "device/wwid") or fact(disk / "wwid")
    place = os.path.realpath(disk / "device")
    session = re.search(r"/(session[0-9]+)/", place)
    target = fact(_SESSIONS / session.group(1) / "targetname") if session else ""
    number = place.rpartition(":")[2]
    return identity(wwid, target, int(number) if number.isdecimal() else 0)


def fact(path: Path) -> str:
    """An attribute of sysfs; empty where it is not there."""
    with contextlib.suppress(OSError):
        return path.read_text().strip()
    return ""


@contextlib.contextmanager
def other_paths_held(word: str, rdev: int) -> Iterator[None]:
    """Keep every other path to the disks below the device `rdev` until the end of the block.

    Raises `InUse` where one of them is in use.
    """
    folder = Path(f"/sys/dev/block/{os.major(rdev)}:{os.minor(rdev)}").resolve()
    mine = set(_disks_below(folder))
    names = {identity_of(disk) for disk in mine} - {""}
    with _held(word, _nodes(folder, (disk for disk in _known(names) if disk not in mine))):
        yield


@contextlib.contextmanager
def all_paths_held(word: str, name: str) -> Iterator[None]:
    """Keep every block device of the disk with this identity until the end of the block.

    Raises `InUse` where one of them is in use.
    """
    with _held(word, map(_node, _known({name} - {""}))):
        yield


@contextlib.contextmanager
def _held(word: str, paths: Iterator[str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for path in paths:
            try:
                stack.callback(os.close, os.open(path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            except OSError as error:  # a path that is dead is nobody's
                if error.errno == errno.EBUSY:
                    what, hint = user_of(path)
                    raise InUse(
                        f"{word} is in use: {path} is the same disk, and {what}", hint
                    ) from None
        yield


def _known(names: set[str]) -> Iterator[Path]:
    """The disks of this machine with these identities."""
    for disk in sorted(_BLOCK.glob("*/device")) if names else ():
        if identity_of(disk.parent) in names:
            yield disk.parent.resolve()


def _disks_below(folder: Path) -> Iterator[Path]:
    """The disks that a device of the kernel's is a part of, or stands on."""
    below = sorted((folder / "slaves").glob("*"))
    if (folder / "partition").exists():
        yield from _disks_below(folder.parent)
    for lower in below:
        yield from _disks_below(lower.resolve())
    if not below:
        yield folder


def _nodes(folder: Path, disks: Iterator[Path]) -> Iterator[str]:
    """What of the other disks is the device's own: all of it, or the partitions that lie where
    it lies, since its neighbours may well be in use."""
    for disk in disks:
        parts = [part.parent for part in sorted(disk.glob("*/partition"))]
        if (folder / "partition").exists() and parts:
            start, end = _range(folder)
            yield from (_node(p) for p in parts if _range(p)[0] < end and start < _range(p)[1])
        else:
            yield _node(disk)


def _range(part: Path) -> tuple[int, int]:
    """Where a partition begins and ends, in sectors of 512 bytes."""
    start, size = int(fact(part / "start")), int(fact(part / "size"))
    return start, start + size


def _node(folder: Path) -> str:
    return f"/dev/{folder.name.replace('!', '/')}"
