# SPDX-License-Identifier: GPL-2.0-only
"""Names that rsync(1) takes for equal when they are not.

It makes hard links, but never breaks one: where the source has two files by now, equal in
contents and times, the clone would keep its one file under both names, and every later
change of one would go to the other too.  It also takes a block device for the character
device of the same number.  Such names are removed from the destination before rsync runs.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

Names = list[bytes]  # all names of one file, relative to the root of its tree


def remove_wrong(source: Path, destination: Path, groups: Iterable[Names]) -> None:
    """Remove from the destination what `wrong` finds.  Raises `OSError`."""
    for name in list(wrong(source, destination, groups)):
        os.unlink(os.path.join(os.fsencode(destination), name))


def wrong(source: Path, destination: Path, groups: Iterable[Names]) -> Iterator[bytes]:
    """Of each file of the destination the names that are not those of one file on the source.

    What the source does not have at all is rsync's to delete.
    """
    for names in groups:
        kept = 0
        for name in sorted(names):
            with contextlib.suppress(OSError):
                here, there = _look(source, name), _look(destination, name)
                kept = kept or here.st_ino
                if here.st_ino != kept or _kind(here) != _kind(there):
                    yield name


def _look(root: Path, name: bytes) -> os.stat_result:
    return os.lstat(os.path.join(os.fsencode(root), name))


def _kind(facts: os.stat_result) -> int:
    return stat.S_IFMT(facts.st_mode)
