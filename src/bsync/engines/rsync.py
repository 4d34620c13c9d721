# SPDX-License-Identifier: GPL-2.0-only
"""The rsync(1) command of the files engine, and what it says.

-a -H -A -X   everything a tree has: hard links, ACLs, extended attributes
-X again      those too in which another rsync (--fake-super) keeps what it may not set
--atimes      access times too
--modify-window=-1   times are compared to the nanosecond
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bsync import pace
from bsync.errors import CopyFailed
from bsync.run import run
from bsync.units import KIB

_KEEPING = (
    "-aHAXX", "--numeric-ids", "--modify-window=-1", "--whole-file", "--no-human-readable",
)  # fmt: skip
_ACCESSED = "--atimes"
OPTIONS = (*_KEEPING, _ACCESSED, "--delete")
_PROGRESS = re.compile(r"\s*([0-9,]+)\s+[0-9]+%")
_CODE = 11  # characters of --itemize-changes, and what those after the second stand for
_ATTRIBUTES = (
    "contents", "size", "modification time", "permissions", "owner", "group", "access time", "ACL",
    "extended attributes",
)  # fmt: skip
_NO_SPACE = "No space left on device"


Difference = tuple[str, str]  # the path of a file in its filesystem, and what of it differs


@dataclass(frozen=True)
class Transfer:
    """What was transferred: regular files and their bytes, and how many names went away.

    `files` is None where blocks were copied of which nobody knows whose they are.
    """

    files: int | None = 0
    transferred: int = 0
    deleted: int = 0

    @classmethod
    def of_bytes(cls, count: int) -> Transfer:
        """As many bytes of nobody knows which files."""
        return cls(None if count else 0, count)

    def __add__(self, other: Transfer) -> Transfer:
        known = self.files is not None and other.files is not None
        return Transfer(
            (self.files or 0) + (other.files or 0) if known else None,
            self.transferred + other.transferred,
            self.deleted + other.deleted,
        )


def clone(
    source: Path, destination: Path, advance: Callable[[int], None], *, checksum: bool = False,
    holed: Sequence[bytes] = (),
) -> Transfer:  # fmt: skip
    """Make the tree at `destination` that at `source`.  Raises `CopyFailed`.

    With `checksum` by contents, but for the files with holes (`holed`, relative paths), which rsync
    would read as well.

    Where a changed file does not fit beside its old version, what is deleted goes first and
    files are changed in place; a last ordinary pass then sees to hard links that the
    in-place pass may have written through.
    """
    how, given = ["--checksum", "--exclude-from=-", "--from0"] if checksum else [], b""
    if checksum:
        given = b"".join(b"/" + _literal(path) + b"\0" for path in holed)
    try:
        done = _pass(source, destination, advance, [*OPTIONS, *how], given)
    except CopyFailed as error:
        if _NO_SPACE not in error.message:
            raise
        tight = ("--delete-before", "--inplace", "--sparse")
        done = _pass(source, destination, advance, [*OPTIONS, *how, *tight], given)
        done += _pass(source, destination, advance, [*OPTIONS, *how], given)
    if checksum and holed:  # their attributes
        done += _some(source, destination, holed, advance, _ACCESSED)
    return done


def refresh(
    source: Path, destination: Path, names: Sequence[bytes], advance: Callable[[int], None]
) -> Transfer:
    """Copy those of `names` (relative paths) whose contents differ; their access times are left to
    the caller.  Raises `CopyFailed`.

    With --atimes, rsync sets the times of every file that it only compares.
    """
    return _some(source, destination, names, advance, "--checksum") if names else Transfer()


def _some(
    source: Path, destination: Path, names: Sequence[bytes], advance: Callable[[int], None],
    *how: str,
) -> Transfer:  # fmt: skip
    options = [*_KEEPING, *how, "--files-from=-", "--from0"]
    return _pass(source, destination, advance, options, b"\0".join(names))


def prune(source: Path, destination: Path) -> Transfer:
    """Delete what the source does not have, and change nothing else."""
    result = run(
        "rsync", *OPTIONS, "--existing", "--ignore-existing", "--stats",
        f"{source}/", f"{destination}/",
    )  # fmt: skip
    return Transfer(deleted=_figure(result.output, "Number of deleted files"))


def differences(source: Path, destination: Path, holed: Sequence[bytes]) -> list[Difference]:
    """Every path that differs in contents or in any attribute, and in what.

    Of the files with holes (`holed`, relative paths) only the attributes are compared.
    """
    patterns = b"".join(b"/" + _literal(path) + b"\0" for path in holed)
    found = _compare(source, destination, patterns, "--checksum", "--exclude-from=-")
    if holed:
        found += _compare(source, destination, b"\0".join(holed), "--files-from=-")
    return found


def differ(
    source: Path, destination: Path, holed: Sequence[bytes], doubtful: Sequence[bytes],
    *, checksum: bool,
) -> bool:  # fmt: skip
    """Whether `clone`, and `refresh` of the `doubtful` paths, would change anything; it ends at
    the first difference.  The contents of the `holed` are not compared."""
    patterns = b"".join(b"/" + _literal(path) + b"\0" for path in holed)
    contents = ("--checksum", "--exclude-from=-") if checksum else ()
    if _differs(source, destination, patterns if checksum else b"", *contents):
        return True
    if checksum and holed and _differs(source, destination, b"\0".join(holed), "--files-from=-"):
        return True
    given = b"\0".join(doubtful)
    return bool(doubtful) and _differs(source, destination, given, "--checksum", "--files-from=-")


class _Found(Exception):
    """A first difference."""


def _differs(source: Path, destination: Path, given: bytes, *how: str) -> bool:
    def watch(line: str) -> None:
        if line.strip():
            raise _Found

    try:
        result = run(
            "rsync", *OPTIONS, "--dry-run", "--itemize-changes", "--out-format=%i %n", "--from0",
            *how, f"{source}/", f"{destination}/", given=given, watch=watch,
        )  # fmt: skip
    except _Found:
        return True
    return bool(result.output.strip())


def _compare(source: Path, destination: Path, given: bytes, *how: str) -> list[Difference]:
    result = run(
        "rsync", *OPTIONS, "--dry-run", "--itemize-changes", "--out-format=%i %n", "--from0", *how,
        f"{source}/", f"{destination}/", given=given,
    )  # fmt: skip
    return [in_words(line, destination) for line in result.output.splitlines() if line.strip()]


def in_words(line: str, destination: Path) -> Difference:
    """What a line of --itemize-changes tells, such as `>fcst...... etc/fstab`."""
    code, path = line[:_CODE], line[_CODE + 1 :].rstrip("/")
    if code.startswith("*deleting"):
        return path, "is not on the source"
    if code.startswith("h"):
        return path, "is hard-linked to other names"
    if code.endswith("+++"):
        there = os.path.lexists(destination / path)
        return path, "is of another type" if there else "is missing"
    found = [word for word, sign in zip(_ATTRIBUTES, code[2:], strict=False) if sign != "."]
    return path, f"differs in {', '.join(found)}"


def _literal(path: bytes) -> bytes:
    """The pattern that matches just `path`."""
    return re.sub(rb"([\\*?\[])", rb"\\\1", path)


def _pass(
    source: Path, destination: Path, advance: Callable[[int], None], options: Sequence[str],
    given: bytes,
) -> Transfer:  # fmt: skip
    def watch(line: str) -> None:
        if match := _PROGRESS.match(line):
            advance(int(match[1].replace(",", "")))

    limit = [f"--bwlimit={max(1, pace.rate() // KIB)}"] if pace.rate() else []
    result = run(
        "rsync", *options, *limit, "--info=progress2", "--stats", f"{source}/", f"{destination}/",
        watch=watch, given=given,
    )  # fmt: skip
    return Transfer(
        _figure(result.output, "Number of regular files transferred"),
        _figure(result.output, "Total transferred file size"),
        _figure(result.output, "Number of deleted files"),
    )


def _figure(output: str, name: str) -> int:
    match = re.search(rf"^{name}: ([0-9,.]+)", output, re.MULTILINE)
    if match is None:
        raise CopyFailed(f"rsync did not say its {name.lower()}", "is this rsync 3.2 or later?")
    return int(re.sub(r"[,.]", "", match[1]))
