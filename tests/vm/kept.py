# SPDX-License-Identifier: GPL-2.0-only
"""What is expensive to build, built once and kept outside the repository.

Runs may meet: one builds while the others wait.  What bears its name is complete, since it
is built under another name; what a killed run left half-built is thrown away by the next.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

Build = Callable[[Path, Path], None]
"""Build into the second folder, with the first, which is thrown away, to work in."""


def kept(name: str, recipe: tuple[Path, ...], build: Build) -> Path:
    """The folder that `build` fills, built if it is absent.

    A change of any file of the `recipe` makes another folder, beside the former one.
    """
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in recipe))
    folder = _root() / f"{name}-{digest.hexdigest()[:12]}"
    with _locked(folder.with_suffix(".lock")):
        if not folder.exists():
            _build_beside(folder, build)
    return folder


def _root() -> Path:
    user = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("BSYNC_TEST_CACHE") or user / "bsync-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder.absolute()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One at a time; the lock ends with its process."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build_beside(folder: Path, build: Build) -> None:
    for left in folder.parent.glob(f"{folder.name}.building-*"):
        shutil.rmtree(left, ignore_errors=True)  # a killed run's: we hold the lock
    work = folder.with_suffix(f".building-{os.getpid()}")
    result = work / "result"
    result.mkdir(parents=True)
    try:
        build(work, result)
        result.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
