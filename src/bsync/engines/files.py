"""The files engine: rsync between two private mounts, and what rsync leaves out."""

from __future__ import annotations

import os
from collections.abc import Callable

from bsync.acquire.tree import Tree
from bsync.engines import attributes, rsync, sparse
from bsync.engines.rsync import Transfer
from bsync.errors import CopyFailed
from bsync.filesystems.ext.inodes import Remarkable


def mirror(
    source: Tree, destination: Tree, advance: Callable[[int], None], *, checksum: bool = False
) -> Transfer:
    """Make the destination's tree the source's.  Raises `CopyFailed`."""
    before = _attributes(destination)
    paths = attributes.find(source.path, _wanted(source.remarkable) | source.remarkable.sparse)
    wanted = attributes.by_path(source.remarkable, paths)
    attributes.clear_flags(destination.path, before)
    holed = [paths[inode] for inode in sorted(source.remarkable.sparse) if inode in paths]
    try:
        done = sparse.copy_all(source.path, destination.path, holed)
    except OSError as error:
        raise CopyFailed(f"a sparse file cannot be copied: {error.strerror}") from None
    done += rsync.mirror(source.path, destination.path, advance, checksum=checksum)
    attributes.apply(destination.path, wanted, before)
    return done


def differences(source: Tree, destination: Tree) -> list[str]:
    """Every path that differs: in contents, in attributes, in flags."""
    here, there = _attributes(source), _attributes(destination)
    flags = [
        f"flags       {os.fsdecode(path)}"
        for path in sorted({*here, *there})
        if here.get(path) != there.get(path)
    ]
    files = list(attributes.find(source.path, source.remarkable.sparse).values())
    data = [
        f"contents    {os.fsdecode(path)}"
        for path, *_ in files
        if not sparse.same_data(source.path, destination.path, path)
    ]
    holed = [path for names in files for path in names]
    return [*rsync.differences(source.path, destination.path, holed), *data, *flags]


def _attributes(tree: Tree) -> dict[bytes, attributes.Attributes]:
    paths = attributes.find(tree.path, _wanted(tree.remarkable))
    return attributes.by_path(tree.remarkable, paths)


def _wanted(remarkable: Remarkable) -> frozenset[int]:
    return frozenset({*remarkable.flags, *remarkable.projects})
