# SPDX-License-Identifier: GPL-2.0-only
"""The superblock of ReiserFS 3.5 and 3.6.  Pure: bytes in, facts out.

Format: fs/reiserfs/reiserfs.h of the kernel, struct reiserfs_super_block: 204 bytes at byte
65536 of the filesystem, little-endian; the last 128 of them since 3.6.
"""

from __future__ import annotations

import struct
import uuid
from dataclasses import dataclass

from bsync.filesystems.kind import BadSuperblock
from bsync.model.layout import Filesystem

OFFSET = 65536  # bytes from the start of the filesystem
SIZE = 204  # bytes

_FIRST = struct.Struct("<11I4H10sHI5H")  # up to the label of 3.6
_MAGIC = {b"ReIsErFs": "3.5", b"ReIsEr2Fs": "3.6", b"ReIsEr3Fs": ""}  # the last: see s_version
_VERSIONS = {0: "3.5", 2: "3.6"}
_CLEAN = 1  # s_umount_state; 2 from mounting for writing until unmounting
_HASHES = {1: "tea", 2: "rupasov", 3: "r5"}


@dataclass(frozen=True)
class Superblock:
    """What bsync needs to know of a ReiserFS.  Sizes in blocks unless said."""

    format: str  # "3.5" or "3.6"
    uuid: str  # none in format 3.5, as no label
    label: str
    block_size: int  # bytes
    blocks: int
    free_blocks: int
    journal_size: int  # without its header
    journal_device: int  # 0: inside
    journal_standard: bool
    transaction_size: int  # at most
    unmounted: bool  # since it was last written to
    faults: int  # what reiserfsck has found and not mended; 0: nothing
    hash: str
    checked: int  # when that was, in seconds since 1970

    @property
    def features(self) -> frozenset[str]:
        """Its format, and what it has beyond it."""
        relocated = {"journal-on-another-device"} if self.journal_device else set()
        return frozenset({f"format-{self.format}", f"hash-{self.hash}", *relocated})

    @property
    def unit(self) -> int:
        return self.block_size

    @property
    def size(self) -> int:
        """Bytes from the first to the last block."""
        return self.blocks * self.block_size

    @property
    def used(self) -> int:
        """Bytes of the blocks in use, the filesystem's own included."""
        return (self.blocks - self.free_blocks) * self.block_size

    @property
    def clean(self) -> bool:
        """Nothing is left for the journal or a check to do."""
        return self.unmounted and not self.faults


@dataclass(frozen=True)
class Reiser(Filesystem):
    """A ReiserFS, version 3."""

    superblock: Superblock


def parse(data: bytes) -> Superblock:
    """The superblock in `data` (its 204 bytes).  Raises `BadSuperblock`."""
    if len(data) != SIZE:
        raise BadSuperblock("superblock beyond the device")
    (
        blocks, free, _, _, device, journal, transaction, *_, block_size, _, _, state, magic,
        faults, hash_code, _, _, version, _, _,
    ) = _FIRST.unpack_from(data)  # fmt: skip
    name = magic.rstrip(b"\0")
    if name not in _MAGIC:
        raise BadSuperblock("superblock of an unknown format")
    form = _MAGIC[name] or _VERSIONS.get(version, f"unknown-{version}")
    named = form != "3.5"
    result = Superblock(
        format=form,
        uuid=str(uuid.UUID(bytes=data[84:100])) if named else "",
        label=data[100:116].split(b"\0")[0].decode("utf-8", "surrogateescape") if named else "",
        block_size=block_size,
        blocks=blocks,
        free_blocks=free,
        journal_size=journal,
        journal_device=device,
        journal_standard=name != b"ReIsEr3Fs",
        transaction_size=transaction,
        unmounted=state == _CLEAN,
        faults=faults,
        hash=_HASHES.get(hash_code, "unknown"),
        checked=int.from_bytes(data[120:124], "little") if named else 0,
    )
    _check(result)
    return result


def _check(sb: Superblock) -> None:
    """Refuse what no mkreiserfs makes, before anything is computed from it."""
    impossible = (
        (sb.format not in _VERSIONS.values(), f"format {sb.format}"),
        (sb.block_size not in (512, 1024, 2048, 4096, 8192), f"blocks of {sb.block_size} bytes"),
        (sb.blocks == 0, "no blocks"),
        (sb.free_blocks > sb.blocks, "more blocks free than there are"),
        (not sb.journal_device and sb.journal_size >= sb.blocks, "a journal larger than all"),
    )
    for wrong, text in impossible:
        if wrong:
            raise BadSuperblock(f"damaged superblock ({text})")
