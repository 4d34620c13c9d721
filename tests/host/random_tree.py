# SPDX-License-Identifier: GPL-2.0-only
"""Random changes of a mounted tree, of every sort that a filesystem's user can make.

Names are few, so that operations meet; what an operation finds impossible it leaves.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

_LIBC = ctypes.CDLL(None, use_errno=True)
_KEEP_SIZE, _PUNCH, _COLLAPSE, _ZERO, _INSERT = 1, 2, 8, 16, 32
_EXCHANGE = 2
_NAMES = 24
_LONGEST = 1 << 20  # bytes of a file, mostly


class RandomTree:
    """Operations on the tree at `root`, chosen by a generator of its own."""

    def __init__(self, root: Path, seed: int) -> None:
        self._root = root
        self._random = random.Random(seed)

    def change(self) -> str:
        """Do one operation; its name."""
        operation = self._random.choice(OPERATIONS)
        with contextlib.suppress(OSError):  # a name that is not there, a device that is full
            operation(self)
        return operation.__name__

    # --- what it is done to ---------------------------------------------------------------

    def _path(self) -> Path:
        folder = self._random.choice(["", "a", "b", "a/c"])
        path = self._root / folder
        path.mkdir(parents=True, exist_ok=True)
        return path / f"file{self._random.randrange(_NAMES)}"

    def _some(self) -> Path:
        """A file that is there, if there is any."""
        found = sorted(path for path in self._root.rglob("file*") if path.is_file())
        return self._random.choice(found) if found else self._path()

    @contextlib.contextmanager
    def _open(self, path: Path) -> Iterator[int]:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _bytes(self, size: int) -> bytes:
        return self._random.randbytes(min(size, 4096)) * -(-size // 4096)

    def _place(self) -> tuple[int, int]:
        size = self._random.choice([1, 100, 4096, 20_000, 300_000])
        return self._random.randrange(_LONGEST), self._random.randrange(1, size + 1)

    # --- contents -------------------------------------------------------------------------

    def write(self) -> None:
        """Somewhere, over data, in a hole or behind the end."""
        with self._open(self._path()) as descriptor:
            offset, size = self._place()
            os.pwrite(descriptor, self._bytes(size)[:size], offset)

    def overwrite(self) -> None:
        """In place, with the times put back as an archiver would."""
        path = self._some()
        facts = path.stat()
        with self._open(path) as descriptor:
            os.pwrite(descriptor, self._bytes(512)[:512], self._random.randrange(facts.st_size + 1))
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))

    def write_through_memory(self) -> None:
        """By a shared mapping."""
        with self._open(self._some()) as descriptor:
            size = os.fstat(descriptor).st_size
            if size:
                with mmap.mmap(descriptor, size) as memory:
                    at = self._random.randrange(size)
                    memory[at : at + 1] = self._bytes(1)[:1]

    def fragment(self) -> None:
        """Many small writes, so that the block map has to grow."""
        with self._open(self._path()) as descriptor:
            for number in range(60):
                os.pwrite(descriptor, b"x" * 1000, number * 3 * 8192)

    def truncate(self) -> None:
        os.truncate(self._some(), self._random.randrange(_LONGEST))

    def allocate(self) -> None:
        self._fallocate(self._random.choice([0, _KEEP_SIZE]))

    def punch(self) -> None:
        self._fallocate(_PUNCH | _KEEP_SIZE)

    def zero(self) -> None:
        self._fallocate(_ZERO)

    def collapse(self) -> None:
        self._fallocate(_COLLAPSE, align=4096)

    def insert(self) -> None:
        self._fallocate(_INSERT, align=4096)

    def _fallocate(self, mode: int, align: int = 1) -> None:
        with self._open(self._some()) as descriptor:
            offset, size = (value // align * align or align for value in self._place())
            _LIBC.fallocate(descriptor, mode, ctypes.c_int64(offset), ctypes.c_int64(size))

    # --- names ----------------------------------------------------------------------------

    def unlink(self) -> None:
        self._some().unlink()

    def replace(self) -> None:
        """As editors and package managers do."""
        path = self._some()
        new = path.with_name("new")
        new.write_bytes(self._bytes(self._random.randrange(60_000)))
        new.replace(path)

    def rename(self) -> None:
        self._some().replace(self._path())

    def exchange(self) -> None:
        one, other = (os.fsencode(self._some()) for _ in range(2))
        _LIBC.renameat2(-100, one, -100, other, _EXCHANGE)

    def link(self) -> None:
        self._path().hardlink_to(self._some())

    def symlink(self) -> None:
        self._path().symlink_to("t" * self._random.choice([10, 59, 60, 61, 500]))

    def node(self) -> None:
        kind = self._random.choice([0o020600, 0o060600, 0o010600, 0o140600])
        os.mknod(self._path(), kind, os.makedev(self._random.randrange(300), 7))

    def many_names(self) -> None:
        folder = self._root / f"many{self._random.randrange(2)}"
        folder.mkdir(exist_ok=True)
        for number in range(self._random.randrange(200)):
            (folder / f"{'n' * 60}{number}").touch()

    def remove_tree(self) -> None:
        shutil.rmtree(self._root / self._random.choice(["a/c", "many0", "many1"]))

    # --- attributes -----------------------------------------------------------------------

    def mode(self) -> None:
        self._some().chmod(self._random.choice([0o600, 0o644, 0o4755]))

    def owner(self) -> None:
        os.chown(self._some(), self._random.randrange(100_000), 7)

    def attribute(self) -> None:
        """In the inode, in a block of its own, or in one that several share."""
        size = self._random.choice([1, 60, 300, 900])
        value = b"s" * size if self._random.random() < 0.5 else self._bytes(size)[:size]
        os.setxattr(self._some(), f"user.{self._random.randrange(3)}", value)

    def no_attribute(self) -> None:
        os.removexattr(self._some(), f"user.{self._random.randrange(3)}")

    def read(self) -> None:
        """Its time of access moves, where that is kept."""
        path = self._some()
        path.read_bytes()
        os.utime(path, ns=(self._random.randrange(1 << 60), path.stat().st_mtime_ns))


OPERATIONS: list[Callable[[RandomTree], None]] = [
    *(RandomTree.write,) * 4, *(RandomTree.overwrite,) * 3, *(RandomTree.replace,) * 3,
    *(RandomTree.unlink,) * 2,
    RandomTree.write_through_memory, RandomTree.fragment, RandomTree.truncate,
    RandomTree.allocate, RandomTree.punch, RandomTree.zero, RandomTree.collapse,
    RandomTree.insert, RandomTree.rename, RandomTree.exchange, RandomTree.link,
    RandomTree.symlink, RandomTree.node, RandomTree.many_names, RandomTree.remove_tree,
    RandomTree.mode, RandomTree.owner, RandomTree.attribute, RandomTree.no_attribute,
    RandomTree.read,
]  # fmt: skip
