# SPDX-License-Identifier: GPL-2.0-only
"""A second source: the first with a small, deterministic set of changes."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchlib.disks import flush, mounted_image
from benchlib.proc import run, signals_deferred

CHANGED_SHARE = 0.001
# Of the changed files; the rest is deleted.
MODIFIED_SHARE = 0.6
APPENDED_SHARE = 0.5
CREATED_SHARE = 0.2
LARGEST_PATCH = 16 * 1024
# Later than every file of the source.
CHANGE_TIME = 1_710_000_000_123_456_789


@dataclass(frozen=True)
class ChangeCounts:
    """How many files a changed source modifies, creates and deletes."""

    modified: int
    created: int
    deleted: int

    @classmethod
    def of(cls, files: int) -> ChangeCounts:
        """The share of all files that is to change, at least one of each kind."""
        total = files * CHANGED_SHARE
        modified = max(1, round(total * MODIFIED_SHARE))
        created = max(1, round(total * CREATED_SHARE))
        return cls(modified, created, max(1, round(total) - modified - created))


def changed_image(image: Path, counts: ChangeCounts, seed: int, work: Path) -> Path:
    """The cached copy of the image with the changes made, copied and changed where missing."""
    text = f"{image.name}-{counts}-{seed}-".encode()
    key = hashlib.sha256(text + Path(__file__).read_bytes()).hexdigest()[:16]
    changed = work / f"changed-{key}.img"
    if changed.exists():
        return changed
    unfinished = changed.with_suffix(".unfinished")
    try:
        run(["cp", "--sparse=auto", "--reflink=auto", image, unfinished])
        with mounted_image(unfinished, work) as root:
            _change(root, counts, random.Random(seed))
        flush(unfinished)
        unfinished.rename(changed)
    finally:
        unfinished.unlink(missing_ok=True)
    return changed


@signals_deferred()  # It takes a moment only, and a file left open would keep the mount busy.
def _change(root: Path, counts: ChangeCounts, rng: random.Random) -> None:
    files = sorted(_regular_files(str(root)))
    chosen = rng.sample(files, counts.modified + counts.created + counts.deleted)
    for path in chosen[: counts.modified]:
        _modify(path, rng)
    for path in chosen[counts.modified : counts.modified + counts.created]:
        _create(f"{path}.created", rng)
    for path in chosen[counts.modified + counts.created :]:
        os.unlink(path)


def _regular_files(directory: str) -> Iterator[str]:
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _regular_files(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry.path


def _modify(path: str, rng: random.Random) -> None:
    # Those not appended to keep their size, so that only the time tells of the change.
    size = os.path.getsize(path)
    with open(path, "r+b") as file:
        file.seek(size if rng.random() < APPENDED_SHARE else rng.randrange(size // 2 + 1))
        room = LARGEST_PATCH if file.tell() == size else min(size - file.tell(), LARGEST_PATCH)
        file.write(rng.randbytes(rng.randrange(room) + 1))
    os.utime(path, ns=(CHANGE_TIME, CHANGE_TIME))


def _create(path: str, rng: random.Random) -> None:
    with open(path, "xb") as file:
        file.write(rng.randbytes(rng.randrange(LARGEST_PATCH) + 1))
    os.utime(path, ns=(CHANGE_TIME, CHANGE_TIME))
