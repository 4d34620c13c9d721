# SPDX-License-Identifier: GPL-2.0-only
"""Image formats: known by their first or last bytes, and opened by QEMU's storage daemon.

An image may name others that it builds on (a backing file, extents); QEMU opens those too,
read-only.  So a format is only opened where the user named it, and a file that looks like one
is refused where it was given bare: its first sector is the disk's own in a raw image, and
whoever may write the disk could name any file there.

Signatures: QEMU's docs/interop/qcow2.txt; VMware's Virtual Disk Format 5.0; Microsoft's
[MS-VHDX] 2.2.1 and VHD specification; VirtualBox's VDICore.h.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import struct
from collections.abc import Iterator

from bsync.acquire.storage_daemon import Export, Node, exported
from bsync.acquire.watchdog import PATIENCE
from bsync.errors import BsyncError, InUse, Refused, Unavailable
from bsync.ledger import Ledger
from bsync.locate import ImageFile, NbdExport

_SECTOR = 512  # bytes
# Format, where its signature stands, and the signature.
_SIGNATURES = (
    ("qcow2", 0, b"QFI\xfb"),
    ("vmdk", 0, b"KDMV"),
    ("vmdk", 0, b"COWD"),
    ("vmdk", 0, b"# Disk DescriptorFile"),
    ("vhdx", 0, b"vhdxfile"),
    ("vpc", 0, b"conectix"),
    ("vdi", 64, b"\x7f\x10\xda\xbe"),
)
_GPT, _BLOCK_SIZES = b"EFI PART", (_SECTOR, 4096)  # UEFI specification, 5.3
_VHD_FOOTER = b"conectix"  # a fixed VHD is a raw disk with a footer of one sector
_VMDK_COMPRESSION = struct.Struct("<H")  # of a sparse extent's header, at 77: 0 none
_NBD_SECONDS = 10  # for a server to answer at first
_NBD_RECONNECT = 30  # seconds for a server to come back before reads and writes fail


def detected(descriptor: int) -> str:
    """The format of an open image file, as a scheme of locators; empty for none known."""
    first = os.pread(descriptor, _SECTOR, 0)
    for name, at, signature in _SIGNATURES:
        if first[at:].startswith(signature):
            return name
    size = os.fstat(descriptor).st_size
    if size > _SECTOR and os.pread(descriptor, len(_VHD_FOOTER), size - _SECTOR) == _VHD_FOOTER:
        return "vpc"
    return ""


def block_size(descriptor: int) -> int:
    """The block size in bytes of the disk that an image is of, which formats do not record: a
    GPT's header stands in the second block."""
    starts = [size for size in _BLOCK_SIZES if os.pread(descriptor, len(_GPT), size) == _GPT]
    return starts[0] if starts else _SECTOR


def refuse_format(path: str, descriptor: int) -> None:
    """Raise `Refused` where a file that was given bare is an image of a known format."""
    try:
        name = detected(descriptor)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from None
    if name:
        raise Refused(
            f"{path} is a {name} image",
            f"write {name}://{path} for the disk in it, loop://{path} for its bytes",
        )


@contextlib.contextmanager
def exported_image(ledger: Ledger, locator: ImageFile, *, writable: bool) -> Iterator[Export]:
    """The disk in an image as a file; see `exported`.  Raises `Unavailable`, `Refused`."""
    if writable:
        refuse_unwritable(locator)
    _refuse_cut_short(locator)
    node = Node(str(locator), _image_options(locator), lambda said: _explained(locator, said))
    with exported(ledger, node, writable=writable, patience=None) as export:  # as for any file
        yield export


@contextlib.contextmanager
def exported_nbd(
    ledger: Ledger, locator: NbdExport, *, writable: bool, patience: float = PATIENCE
) -> Iterator[Export]:
    """What an NBD server exports as a file; see `exported`.  Raises `Unavailable`, `Refused`."""
    node = Node(
        str(locator),
        _nbd_options(locator),
        lambda said: _explained(locator, said),
        seconds=_NBD_SECONDS,
    )
    with exported(ledger, node, writable=writable, patience=patience) as export:
        yield export


def _refuse_cut_short(locator: ImageFile) -> None:
    """Raise `Refused` where a qcow2 image ends before its own tables: what is missing would be read
    as zeroes.  Format: QEMU's docs/interop/qcow2.txt."""
    if locator.format != "qcow2":
        return
    with contextlib.suppress(OSError), open(locator.path, "rb") as file:
        header, size = file.read(56), os.fstat(file.fileno()).st_size
        if len(header) < 56 or not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return
        entries, level_one, counts = struct.unpack_from(">IQQ", header, 36)
        if level_one + 8 * entries > size or counts >= size:
            raise Refused(f"{locator} is cut short: its tables lie beyond its end", "copy it anew")


def _image_options(locator: ImageFile) -> dict[str, object]:
    try:
        path = os.path.realpath(locator.path, strict=True)
        block = stat.S_ISBLK(os.stat(path).st_mode)
    except OSError as error:
        raise Unavailable(f"{locator}: {error.strerror}", "qemu-img create makes one") from None
    file = {"driver": "host_device" if block else "file", "filename": path, "locking": "on"}
    options: dict[str, object] = {"driver": locator.format, "file": file}
    # Zeroes need no room in an image.
    return {**options, "discard": "unmap", "detect-zeroes": "unmap"}


def _nbd_options(locator: NbdExport) -> dict[str, object]:
    server: dict[str, object] = {"type": "unix", "path": locator.socket}
    if not locator.socket:
        server = {"type": "inet", "host": locator.host, "port": str(locator.port)}
    return {
        "driver": "nbd",
        "server": server,
        "export": locator.export,
        "reconnect-delay": _NBD_RECONNECT,
    }


def refuse_unwritable(locator: ImageFile) -> None:
    """Raise `Refused` for what QEMU would not write to.

    Compressed VMDKs cannot be written to in the middle; QEMU only says so once they are.
    """
    if os.path.exists(locator.path) and not os.access(locator.path, os.W_OK):
        raise Refused(f"{locator} is read-only", "it can only be a source")
    with contextlib.suppress(OSError, struct.error), open(locator.path, "rb") as file:
        first = file.read(_SECTOR)
        if first.startswith(b"KDMV") and _VMDK_COMPRESSION.unpack_from(first, 77)[0]:
            raise Refused(
                f"{locator} is compressed (streamOptimized)", "qemu-img convert makes it writable"
            )


# What QEMU says of an image or of an NBD server, what it means, and what can be done.
_REASONS: tuple[tuple[str, type[BsyncError], str, str], ...] = (
    (
        r'Failed to get ".*" lock|Failed to get shared', InUse,
        "is in use by another program", "does a virtual machine use it? shut it down first",
    ),
    (
        r"TLS (is )?required|requires? TLS|TLS negotiation|tls-creds", Unavailable,
        "the server wants TLS, which bsync does not speak",
        "tunnel it (stunnel, ssh -L), or serve it without TLS on a socket: nbd+unix://",
    ),
    (
        r"key-secret|required for cipher", Unavailable, "the image is encrypted",
        "qemu-nbd --object secret,… serves it decrypted on a socket: nbd+unix://",
    ),
    (
        r"export .*not (present|available|found)|No export", Unavailable,
        "the server has no such export", "nbdinfo --list shows those that it has",
    ),
    (
        r"[Cc]onnection refused", Unavailable, "the server refused the connection",
        "check address and port; is the server running?",
    ),
    (
        r"Failed to connect", Unavailable, "cannot connect to the server",
        "check address and port, or the socket's path",
    ),
    (
        r"no answer", Unavailable, "the server did not answer in time",
        "check address and port, and the firewalls",
    ),
)  # fmt: skip


def _explained(locator: ImageFile | NbdExport, said: str) -> BsyncError:
    """What QEMU said, as an error of ours."""
    nbd = isinstance(locator, NbdExport)
    if "read-only" in said or (nbd and "Permission denied" in said):  # writing is
        return Refused(f"{locator} is read-only", "it can only be a source")
    for pattern, kind, what, hint in _REASONS:
        if re.search(pattern, said):
            return kind(f"{locator}{' ' if what.startswith('is ') else ': '}{what}", hint)
    return Unavailable(f"{locator}: {said}")
