# SPDX-License-Identifier: GPL-2.0-only
"""The files engine: rsync between two private mounts, and what rsync leaves out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from bsync.acquire.tree import Tree
from bsync.engines import attributes, links, masks, rsync, sparse
from bsync.engines.rsync import Difference, Transfer
from bsync.errors import CopyFailed
from bsync.filesystems.kinds import by_files
from bsync.model.layout import Filesystem


def clone(
    source: Tree, destination: Tree, advance: Callable[[int], None], *, checksum: bool = False
) -> Transfer:
    """Make the destination's tree the source's.  Raises `CopyFailed`.

    What the source changed late is compared by its contents: a program that sets a file's times
    back leaves its size and time as they were.
    """
    there = _paths(destination, destination.special.linked | destination.special.listed)
    before = attributes.by_path(destination.special, there)
    sparse_files, late = source.special.sparse, source.special.late
    here = _paths(source, sparse_files | late | source.special.listed)
    odd = {**_masks(source, here), **_masks(destination, there)}
    wanted = attributes.by_path(source.special, here)
    attributes.clear_flags(destination.path, before)
    _remove_wrong_links(source, destination, there)
    done = _copy_sparse(source, destination, _of(sparse_files & late, here), True)
    done += _copy_sparse(source, destination, _of(sparse_files - late, here), checksum)
    holed = [path for names in _of(sparse_files, here) for path in names]
    done += rsync.clone(source.path, destination.path, advance, checksum=checksum, holed=holed)
    if not checksum:
        doubtful = [path for names in _of(late - sparse_files, here) for path in names]
        done += _refresh(source, destination, doubtful, advance)
    masks.apply(source.path, destination.path, odd)
    attributes.apply(destination.path, wanted, before)
    return done


def same(source: Tree, destination: Tree, *, checksum: bool) -> bool:
    """Whether `clone` would change nothing; nothing is written."""
    paths = _paths(destination, destination.special.linked | destination.special.listed)
    sparse_files, late = source.special.sparse, source.special.late
    here = _paths(source, sparse_files | late | source.special.listed)
    there = attributes.by_path(destination.special, paths)
    if attributes.by_path(source.special, here) != there:
        return False
    if _masks(source, here) != _masks(destination, paths):
        return False
    linked = _of(destination.special.linked, paths)
    if any(links.wrong(source.path, destination.path, linked)):
        return False
    holed = _of(sparse_files if checksum else sparse_files & late, here)
    if not all(sparse.same_data(source.path, destination.path, names[0]) for names in holed):
        return False
    doubtful = [] if checksum else [p for names in _of(late - sparse_files, here) for p in names]
    spared = [path for names in holed for path in names]
    return not rsync.differ(source.path, destination.path, spared, doubtful, checksum=checksum)


def overfull(
    source: Tree, there: Filesystem, clone: Tree | None = None
) -> tuple[bytes, int, int] | None:
    """A directory of the source that has more names than are sure to fit into one of `there`, or
    than its clone has already: its path and both numbers.  Raises `CopyFailed`."""
    try:
        for path, *_ in attributes.find(source.path, source.special.vast).values():
            names = _names(source, path)
            most = by_files(there).most_names(there, [len(name) for name in names])
            if most is None or len(names) <= most:
                continue
            if clone is None or len(names) > len(_names(clone, path)):
                return path, len(names), most
    except OSError as error:
        raise CopyFailed(f"a directory cannot be read: {error.strerror}") from None
    return None


def _names(tree: Tree, path: bytes) -> list[bytes]:
    """Those in a directory; none if there is no such directory."""
    try:
        return os.listdir(os.path.join(os.fsencode(tree.path), path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _refresh(
    source: Tree, destination: Tree, names: list[bytes], advance: Callable[[int], None]
) -> Transfer:
    """Copy those of `names` whose contents differ; they and their folders keep their times."""
    done = rsync.refresh(source.path, destination.path, names, advance)
    if done.files:
        folders = {os.path.dirname(name) or b"." for name in names}
        sparse.set_times(source.path, destination.path, [*names, *sorted(folders)])
    return done


def _remove_wrong_links(source: Tree, destination: Tree, there: attributes.Paths) -> None:
    try:
        groups = _of(destination.special.linked, there)
        links.remove_wrong(source.path, destination.path, groups)
    except OSError as error:
        raise CopyFailed(f"a hard link cannot be broken: {error.strerror}") from None


def _copy_sparse(
    source: Tree, destination: Tree, holed: list[list[bytes]], checksum: bool
) -> Transfer:
    def make_room() -> Transfer:
        return rsync.prune(source.path, destination.path)

    try:
        return sparse.copy_all(source.path, destination.path, holed, make_room, checksum=checksum)
    except OSError as error:
        raise CopyFailed(f"a sparse file cannot be copied: {error.strerror}") from None


def differences(source: Tree, destination: Tree) -> list[Difference]:
    """Every path that differs: in contents, in attributes, in flags, in hard links."""
    paths = _paths(destination, destination.special.linked | destination.special.listed)
    files = _paths(source, source.special.sparse | source.special.listed)
    flags = _differing(
        "differs in flags or project",
        attributes.by_path(source.special, files),
        attributes.by_path(destination.special, paths),
    )
    acls = _differing("differs in ACL mask", _masks(source, files), _masks(destination, paths))
    groups = _of(source.special.sparse, files)
    data = [
        (os.fsdecode(path), "differs in contents")
        for path, *_ in groups
        if not sparse.same_data(source.path, destination.path, path)
    ]
    linked = _of(destination.special.linked, paths)
    broken = [
        (os.fsdecode(path), "is hard-linked to other names")
        for path in links.wrong(source.path, destination.path, linked)
    ]
    holed = [path for names in groups for path in names]
    found = rsync.differences(source.path, destination.path, holed)
    return [*found, *data, *broken, *flags, *acls]


def _differing(
    what: str, here: Mapping[bytes, object], there: Mapping[bytes, object]
) -> list[Difference]:
    """Every path at which the two do not have the same."""
    differ = sorted(path for path in {*here, *there} if here.get(path) != there.get(path))
    return [(os.fsdecode(path), what) for path in differ]


def _masks(tree: Tree, paths: attributes.Paths) -> masks.Lists:
    """The ACLs that modes do not tell of."""
    names = (path for group in _of(tree.special.listed, paths) for path in group)
    try:
        return masks.odd(tree.path, names)
    except OSError as error:
        raise CopyFailed(f"an ACL cannot be read: {error.strerror}") from None


def _paths(tree: Tree, more: frozenset[int]) -> attributes.Paths:
    """The paths of all that has flags or a project, and of `more` inodes."""
    wanted = {*tree.special.flags, *tree.special.projects, *more}
    try:
        return attributes.find(tree.path, frozenset(wanted))
    except OSError as error:
        raise CopyFailed(f"a directory cannot be read: {error.strerror}") from None


def _of(inodes: frozenset[int], paths: attributes.Paths) -> list[list[bytes]]:
    """All names of each of `inodes`, for those that have one."""
    return [paths[inode] for inode in sorted(inodes) if inode in paths]
