# SPDX-License-Identifier: GPL-2.0-only
"""Whatever is behind a locator, acquired and opened: the one way from a name to a `Device`."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import Enum

from bsync.acquire import block, generation, image_format, iscsi_user, loop, lvm, open_iscsi
from bsync.acquire.backing import BackingExtent, backing_of
from bsync.acquire.block import Device
from bsync.acquire.loop import Over
from bsync.acquire.open_iscsi import Credentials
from bsync.acquire.reserved import refuse_reserved, reserved
from bsync.acquire.servers import served
from bsync.acquire.storage_daemon import LONGEST, Export
from bsync.errors import Unavailable, Usage
from bsync.ledger import Ledger
from bsync.locate import (
    DevicePath,
    ImageFile,
    IscsiLun,
    Locator,
    LoopFile,
    LvmSnapshot,
    NbdExport,
)
from bsync.model.layout import Extent
from bsync.units import USUAL, Share


class Role(Enum):
    """What a device is opened for."""

    SOURCE = "to be read, held still meanwhile"
    DESTINATION = "to be written"
    PLAN = "to be looked at, as what a run would write"
    SIGHT = "to be looked at, as the destination of a verification"
    GLANCE = "to be looked at, whoever uses it meanwhile"

    @property
    def writable(self) -> bool:
        """Whether it is written now."""
        return self is Role.DESTINATION

    @property
    def wanted(self) -> bool:
        """Whether it has to be one that can be written."""
        return self in (Role.DESTINATION, Role.PLAN)


@dataclass(frozen=True)
class Means:
    """What acquiring may need beside the name."""

    ledger: Ledger
    notice: Callable[[str], None]
    credentials: Callable[[IscsiLun], Credentials | None]
    snapshot_size: Share = USUAL  # of a classic snapshot
    create: int = 0  # bytes of an image file to be made as destination
    keep: int | None = None  # older generations of an image that is written as a whole, if it is


@contextlib.contextmanager
def opened(
    locator: Locator, role: Role, means: Means, apart_from: Device | None = None
) -> Iterator[Device]:
    """The device that `locator` names, held for us until the end of the block.

    `apart_from`: the source, which the destination must not overlap.  Raises `Unavailable`,
    `Refused`, `Usage`.
    """
    if means.create and role is not Role.SOURCE and not isinstance(locator, DevicePath | LoopFile):
        raise Usage(f"--create makes image files, which {locator} is not")
    if means.keep is not None and role is Role.DESTINATION:
        with _drafted(locator, means, means.keep, apart_from) as device:
            yield device
        return
    match locator:
        case DevicePath() | LoopFile():
            way = _path(locator, role, means, apart_from)
        case LvmSnapshot():
            way = _volume(locator, role, means, apart_from)
        case IscsiLun():
            way = _lun(locator, role, means, apart_from)
        case ImageFile() | NbdExport():
            way = _export(locator, role, means, apart_from)
    with way as device:
        yield device


@contextlib.contextmanager
def _drafted(
    locator: Locator, means: Means, keep: int, apart_from: Device | None
) -> Iterator[Device]:
    """The next generation of an image file."""
    if not isinstance(locator, DevicePath | LoopFile | ImageFile):
        raise Usage(f"--transaction is for image files, which {locator} is not")
    if means.create:
        raise Usage("--create makes a new image", "which needs no --transaction")
    with contextlib.suppress(OSError):
        block.refuse_overlap(apart_from, str(locator), backing_of(os.stat(locator.path)))
    with generation.draft(means.ledger, str(locator), locator.path, keep) as made:
        there = replace(locator, path=made.path)
        with opened(there, Role.DESTINATION, replace(means, keep=None), apart_from) as device:
            yield replace(device, word=str(locator), guard=made, disposable=True)


@contextlib.contextmanager
def _path(
    locator: DevicePath | LoopFile, role: Role, means: Means, apart_from: Device | None
) -> Iterator[Device]:
    create = 0 if role is Role.SOURCE else means.create
    with block.opened(
        locator, writable=role.writable, wanted=role.wanted, create=create, apart_from=apart_from,
        shared=role is Role.GLANCE,
    ) as device:  # fmt: skip
        if isinstance(locator, DevicePath) and stat.S_ISREG(os.fstat(device.descriptor).st_mode):
            image_format.refuse_format(locator.path, device.descriptor)
        refuse_reserved(device.word, device.backing, role.writable)
        yield device


@contextlib.contextmanager
def _volume(
    locator: LvmSnapshot, role: Role, means: Means, apart_from: Device | None
) -> Iterator[Device]:
    """A snapshot; only a volume that is to be looked at is opened itself."""
    if role in (Role.SIGHT, Role.PLAN, Role.GLANCE):
        path = DevicePath(lvm.origin(locator).path)
        shared = role is Role.GLANCE
        with block.opened(path, writable=False, apart_from=apart_from, shared=shared) as device:
            yield replace(device, word=str(locator))
        return
    with lvm.snapshot(
        means.ledger, locator, transaction=role is Role.DESTINATION, size=means.snapshot_size,
        notice=means.notice,
    ) as (made, volume, origin):  # fmt: skip
        backing = backing_of(os.stat(origin.path))
        block.refuse_overlap(apart_from, str(locator), backing)
        with block.opened(DevicePath(volume.path), writable=True) as device:
            what = f"{'thin ' if origin.thin else ''}snapshot of {origin.name}"
            yield replace(
                device, word=str(locator), description=what, backing=backing, guard=made,
                disposable=True,
            )  # fmt: skip


@contextlib.contextmanager
def _lun(
    locator: IscsiLun, role: Role, means: Means, apart_from: Device | None
) -> Iterator[Device]:
    """Through the kernel's initiator where there is one, else through one in user space."""
    credentials = means.credentials(locator)
    if open_iscsi.available():
        with (
            open_iscsi.attached(means.ledger, locator, credentials) as path,
            block.opened(
                DevicePath(path), writable=role.writable, wanted=role.wanted, apart_from=apart_from
            ) as device,
            reserved(means.ledger, str(locator), device.backing, role.writable),
        ):
            yield replace(device, word=str(locator))
        return
    with iscsi_user.attached(
        means.ledger, locator, credentials, writable=role.writable, wanted=role.wanted
    ) as found:
        what = f"LUN {found.lun.number}, {found.lun.name}".rstrip(", ")
        block.refuse_overlap(apart_from, str(locator), found.backing)
        with _buffered(found.export, role.writable, means, found.lun.block_size) as device:
            yield replace(device, word=str(locator), description=what, backing=found.backing)


@contextlib.contextmanager
def _export(
    locator: ImageFile | NbdExport, role: Role, means: Means, apart_from: Device | None
) -> Iterator[Device]:
    """What QEMU's storage daemon finds in an image, or at an NBD server."""
    if isinstance(locator, ImageFile):
        if role is Role.PLAN:
            image_format.refuse_unwritable(locator)
        way = image_format.exported_image(means.ledger, locator, writable=role.writable)
        what = f"{locator.format} image"
    else:
        # A server is asked for a writable export to see whether it is one.
        way = image_format.exported_nbd(means.ledger, locator, writable=role.wanted)
        what = "NBD export"
    with way as export, _buffered(export, role.writable, means) as device:
        if isinstance(locator, ImageFile):
            backing = backing_of(os.stat(locator.path))
        else:
            backing = BackingExtent(str(locator), device.backing.extent, served(locator))
        block.refuse_overlap(apart_from, str(locator), backing)
        yield replace(device, word=str(locator), description=what, backing=backing)


@contextlib.contextmanager
def _buffered(
    export: Export, writable: bool, means: Means, block_size: int = 0
) -> Iterator[Device]:
    """A loop device over the whole of an exported file, with blocks as large as those of what is
    exported; 0: nothing says how large they are, but a table.

    Where it is written it has no direct I/O, its requests are short, and what does not come in
    whole pages comes by its page cache: see `storage_daemon`.
    """
    path = export.path
    try:
        backing = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}") from None
    try:
        extent = Extent(0, os.fstat(backing).st_size)
        unit = block_size or image_format.block_size(backing)
        longest = LONGEST if writable else 0
        over = Over(backing, extent, writable, unit, direct=not writable, longest=longest)
        with (
            loop.attached(means.ledger, over) as attached,
            block.opened(DevicePath(attached.device), writable=writable) as opened_device,
        ):
            export.watch(attached.device)
            yield replace(opened_device, shortcut=export.shortcut, whole_pages=writable)
    finally:
        with contextlib.suppress(OSError):  # a dead export says so even when it is closed
            os.close(backing)
