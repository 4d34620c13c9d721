# SPDX-License-Identifier: GPL-2.0-only
"""XFS, as the stages ask for it: see `Kind`.  Pure."""

from __future__ import annotations

from dataclasses import replace

from bsync.filesystems.kind import Kind
from bsync.filesystems.xfs import by_blocks, by_files, log, space, superblock
from bsync.filesystems.xfs.superblock import Superblock, Xfs
from bsync.model.allocation import Read, Unknown


def read(name: str, data: bytes) -> Xfs:
    """See `Kind`."""
    return Xfs(name, superblock.parse(data))


def look(found: Xfs, read: Read) -> Xfs:
    """See `Kind`."""
    found = replace(found, superblock=_completed(found.superblock, read))
    try:
        space.allocation(read, found.superblock)
    except Unknown as error:
        return replace(found, unmapped=str(error))
    return found


def _completed(sb: Superblock, read: Read) -> Superblock:
    """With what the superblock does not tell."""
    if sb.problem:
        return sb
    inode = read(sb.root, sb.inode_size) if sb.root + sb.inode_size <= sb.size else b""
    try:
        log.check_empty(read, sb)
    except Unknown:
        return replace(sb, born=superblock.born(inode), clean=False)
    return replace(sb, born=superblock.born(inode))


XFS = Kind(
    names=("xfs",),
    reach=superblock.SIZE,
    read=read,
    look=look,
    files=by_files,
    blocks=by_blocks,
    mapped=by_blocks,
)
