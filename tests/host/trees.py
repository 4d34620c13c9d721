# SPDX-License-Identifier: GPL-2.0-only
"""What a tree is in the end, told by lstat, ioctl and the contents: to compare two of them.

Nothing here is shared with bsync: a mistake of its own would hide itself.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from lab import Lab, Part

# linux/fs.h; the letters are those of chattr(1).
CHATTR = {
    "s": 0x1, "u": 0x2, "c": 0x4, "S": 0x8, "i": 0x10, "a": 0x20, "d": 0x40, "A": 0x80,
    "j": 0x4000, "t": 0x8000, "D": 0x10000, "T": 0x20000, "x": 0x2000000, "P": 0x20000000,
}  # fmt: skip
_GET_FLAGS, _SET_FLAGS, _GET_XATTR = 0x80086601, 0x40086602, 0x801C581F
_SETTABLE = sum(CHATTR.values())


@dataclass(frozen=True)
class Facts:
    """Everything about one name that a mirror keeps."""

    mode: str
    owner: tuple[int, int]
    mtime: int
    atime: int  # of regular files and in seconds: rsync keeps no more of it
    size: int
    rdev: int
    target: bytes
    contents: str
    xattrs: tuple[tuple[str, bytes], ...]
    flags: str
    project: int
    links: tuple[bytes, ...]


def facts(root: Path) -> dict[bytes, Facts]:
    """The facts of every name below `root`, and of `root` itself as b"."."""
    names = dict(_names(os.fsencode(root)))
    groups: dict[int, list[bytes]] = defaultdict(list)
    for name, row in names.items():
        if row.st_nlink > 1 and not stat.S_ISDIR(row.st_mode):
            groups[row.st_ino].append(name)
    for inode, group in groups.items():
        nlink = {names[name].st_nlink for name in group}
        assert nlink == {len(group)}, f"inode {inode} is called {group}, and links are {nlink}"
    return {
        name: _facts(os.fsencode(root), name, row, tuple(sorted(groups.get(row.st_ino, []))))
        for name, row in names.items()
    }


def blocks(root: Path) -> dict[bytes, int]:
    """Bytes that each regular file takes on the disk."""
    rows = _names(os.fsencode(root))
    return {name: row.st_blocks * 512 for name, row in rows if stat.S_ISREG(row.st_mode)}


def set_flags(path: Path | bytes, letters: str) -> None:
    """As chattr =LETTERS, for names that no shell and no locale can spell."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        present = _ioctl_int(descriptor, _GET_FLAGS)
        flags = present & ~_SETTABLE | sum(CHATTR[letter] for letter in letters)
        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("=I", flags))
    finally:
        os.close(descriptor)


def assert_same_tree(
    lab: Lab, source: Path, target: Path, here: Part | None = None, there: Part | None = None,
    *, options: str = "",
) -> None:  # fmt: skip
    """Both filesystems hold the same tree; holes are holes."""
    with (
        lab.mounted(source, here, read_only=True, options=options) as one,
        lab.mounted(target, there, read_only=True, options=options) as other,
    ):
        differences = list(_differences(facts(one), facts(other)))
        assert not differences, "\n".join(differences[:20])
        taken, allowed = blocks(other), blocks(one)
        fat = {name: (size, allowed[name]) for name, size in taken.items()
               if size > allowed[name] + 65536}  # fmt: skip
        assert not fat, f"holes became blocks (bytes there, bytes on the source): {fat}"


def _differences(one: dict[bytes, Facts], other: dict[bytes, Facts]) -> Iterator[str]:
    for name in sorted({*one, *other}):
        if name not in one or name not in other:
            yield f"{name!r} is only on the {'source' if name in one else 'destination'}"
            continue
        for field in fields(Facts):
            here, there = (getattr(row[name], field.name) for row in (one, other))
            if here != there:
                yield f"{name!r}: {field.name}: {here!r} became {there!r}"


def _names(root: bytes) -> Iterator[tuple[bytes, os.stat_result]]:
    yield b".", os.lstat(root)
    pending = [b""]
    while pending:
        folder = pending.pop()
        for name in os.listdir(os.path.join(root, folder)):
            path = os.path.join(folder, name)
            row = os.lstat(os.path.join(root, path))
            yield path, row
            if stat.S_ISDIR(row.st_mode):
                pending.append(path)


def _facts(root: bytes, name: bytes, row: os.stat_result, links: tuple[bytes, ...]) -> Facts:
    path = os.path.join(root, name)
    plain, folder = stat.S_ISREG(row.st_mode), stat.S_ISDIR(row.st_mode)
    flags, project = _attributes(path) if plain or folder else ("", 0)
    xattrs = sorted(os.listxattr(path, follow_symlinks=False))
    return Facts(
        mode=stat.filemode(row.st_mode),
        owner=(row.st_uid, row.st_gid),
        mtime=row.st_mtime_ns,
        atime=row.st_atime_ns // 10**9 if plain else 0,
        size=0 if folder else row.st_size,
        rdev=row.st_rdev,
        target=os.readlink(path) if stat.S_ISLNK(row.st_mode) else b"",
        contents=_digest(path, row.st_size) if plain else "",
        xattrs=tuple((key, os.getxattr(path, key, follow_symlinks=False)) for key in xattrs),
        flags=flags,
        project=project,
        links=links,
    )


def _attributes(path: bytes) -> tuple[str, int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME)
    try:
        flags = _ioctl_int(descriptor, _GET_FLAGS)
        project = struct.unpack_from("=I", fcntl.ioctl(descriptor, _GET_XATTR, bytes(28)), 12)[0]
        return "".join(c for c, bit in CHATTR.items() if flags & bit), project
    finally:
        os.close(descriptor)


def _ioctl_int(descriptor: int, request: int) -> int:
    return int(struct.unpack("=I", fcntl.ioctl(descriptor, request, bytes(4)))[0])


def _digest(path: bytes, size: int) -> str:
    """A hash of the contents; holes are skipped, but where they are does not count."""
    digest = hashlib.blake2b(str(size).encode())
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NOATIME)
    try:
        end = seen = 0
        while end < size:
            try:
                start = os.lseek(descriptor, end, os.SEEK_DATA)
            except OSError:
                break
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            for at in range(max(seen, start // 4096 * 4096), end, 4096):
                data = os.pread(descriptor, 4096, at)
                if data.strip(b"\0"):
                    digest.update(f"{at}:".encode() + data)
                seen = at + 4096  # extents of smaller blocks may share a piece
    finally:
        os.close(descriptor)
    return digest.hexdigest()
