# SPDX-License-Identifier: GPL-2.0-only
"""An image file that is written as a whole or not at all: in a copy that shares its extents, which
takes its name at the end.

The copy stands beside the image under a hidden name, and goes with a run that ends otherwise, so
that the last good image stays whatever happens.  What the name stood for before can be kept as a
generation: FILE.1 is the youngest.  Interface: ioctl_ficlone(2), on XFS and btrfs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import glob
import os
import stat
from collections.abc import Iterator
from typing import ClassVar

from bsync.acquire import locks
from bsync.errors import CopyFailed, Refused, Unavailable, Usage
from bsync.ioctls import FICLONE
from bsync.ledger import Facts, Ledger, runs


class Draft:
    """The next generation of an image."""

    kind: ClassVar[str] = "draft"

    def __init__(self, path: str, image: str = "", keep: int = 0) -> None:
        self.path = path
        self._image = image
        self._keep = keep
        self._committed = False

    @classmethod
    def from_facts(cls, facts: Facts) -> Draft:
        return cls(str(facts["path"]))

    def facts(self) -> Facts:
        return {"path": self.path}

    def acquire(self) -> None:
        """Make it of the image.  Raises `Refused`, `Unavailable`."""
        try:
            with open(self._image, "rb") as image, open(self.path, "xb") as draft:
                facts = os.fstat(image.fileno())
                os.fchown(draft.fileno(), facts.st_uid, facts.st_gid)
                os.fchmod(draft.fileno(), stat.S_IMODE(facts.st_mode))
                fcntl.ioctl(draft, FICLONE, image.fileno())
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EINVAL, errno.ENOSYS):
                raise Unavailable(f"{self.path}: {error.strerror}") from None
            raise Refused(
                f"{self._image}: its filesystem cannot share extents between files",
                "XFS and btrfs can; without --transaction the image itself is written",
            ) from None

    def release(self) -> None:
        """Remove it, unless it has become the image."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def check(self) -> None:
        """It fails by itself."""

    def commit(self) -> None:
        """At the end of the block it becomes the image."""
        self._committed = True

    def publish(self) -> None:
        """Give it the image's name, if it was committed.  Raises `CopyFailed`."""
        if not self._committed:
            return
        try:
            _sync(self.path)
            if self._keep:
                _turn(self._image, self._keep)
            os.replace(self.path, self._image)
            _sync(os.path.dirname(self._image))
        except OSError as error:
            message = f"{self._image} cannot be replaced: {error.strerror}"
            raise CopyFailed(message, "it is as it was") from None


@contextlib.contextmanager
def draft(ledger: Ledger, word: str, path: str, keep: int) -> Iterator[Draft]:
    """A copy of the image at `path`, which takes its place at the end of a block that ends well and
    in which it was committed.  `keep`: how many older ones are kept.

    Raises `Usage`, `Unavailable`, `Refused`.
    """
    image = os.path.realpath(path)
    with contextlib.ExitStack() as held:
        held.callback(os.close, descriptor := _opened(word, image))
        locks.hold(descriptor, image, writable=True, wanted=True)
        _remove_orphans(image)
        hidden = f"{_hidden(image)}{ledger.run}"
        made = held.enter_context(ledger.holding(Draft(hidden, image, keep)))
        yield made
        made.publish()


def _hidden(image: str) -> str:
    """How the names of an image's drafts begin; the run's id follows."""
    folder, name = os.path.split(image)
    return os.path.join(folder, f".{name}.bsync-")


def _remove_orphans(image: str) -> None:
    """The drafts of runs that ended with the machine, and their ledgers with them."""
    start = _hidden(image)
    for path in glob.glob(f"{glob.escape(start)}*"):
        if path.removeprefix(start) not in runs():
            with contextlib.suppress(OSError):
                os.unlink(path)


def _opened(word: str, image: str) -> int:
    try:
        if not stat.S_ISREG(os.stat(image).st_mode):
            raise Usage(f"{word} is no image file", "--transaction is for image files")
        return os.open(image, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        hint = "--create makes a new image, which needs no --transaction"
        raise Unavailable(f"{word}: {error.strerror}", hint) from None


def _turn(image: str, keep: int) -> None:
    """FILE.1 becomes FILE.2, and so on; the image has the name FILE.1, too, for a moment."""
    for number in range(keep, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{image}.{number - 1}", f"{image}.{number}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{image}.1")
    os.link(image, f"{image}.1")


def _sync(path: str) -> None:
    """What it is, or which names are in it, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
