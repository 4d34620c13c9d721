# SPDX-License-Identifier: GPL-2.0-only
"""The jobs file: pairs of disks by name, each with the options of `bsync SRC DEST`.

    [defaults]
    wait = 600

    [job.web]
    source = "lvm+snapshot://vg0/web"
    destination = "iscsi://nas/iqn.2004-10.org.example:web"
    groups = ["nightly"]
    snapshot-size = "20%"
    before = "systemctl stop web"

Keys are the long options without their dashes (`true` for those without a value), and those below.
Format: TOML 1.0.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from bsync.errors import BsyncError, Unavailable, Usage

HOOKS = ("before", "after", "on-failure")
_DISKS = ("source", "destination")
_OWN = (*_DISKS, "groups", *HOOKS)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")

Check = Callable[[list[str]], None]  # raises `BsyncError` for words that bsync would not take


@dataclass(frozen=True)
class Job:
    """A pair of disks, and how it is cloned."""

    name: str
    source: str
    destination: str
    options: tuple[str, ...]  # words of the command line
    groups: frozenset[str] = frozenset()
    hooks: tuple[tuple[str, str], ...] = ()  # when, and what the shell is given

    @property
    def words(self) -> list[str]:
        """The command line that does it, after `bsync`."""
        return ["clone", *self.options, "--", self.source, self.destination]

    def hook(self, when: str) -> str:
        """The shell's command at one of `HOOKS`; empty for none."""
        return dict(self.hooks).get(when, "")


def load(path: str) -> tuple[str, dict[str, Any]]:
    """The file's text, and what it says.  Raises `Unavailable`, `Usage`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}", "--file names another") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Usage(f"{path} is no TOML: {error}") from None


def read(path: str, options: Mapping[str, bool], check: Check) -> tuple[list[Job], list[str]]:
    """The jobs of a file, and a line for each mistake in it.

    `options`: those that a job may have, and whether they take a value.  Raises `Unavailable`,
    `Usage`.
    """
    text, data = load(path)
    faults = [
        f"{path}:{_line(text, key)}: there is no {key!r}{_meant(key, ('defaults', 'job'))}"
        for key in data
        if key not in ("defaults", "job")
    ]
    jobs = []
    defaults = data.get("defaults", {})
    at = f"{path}:{_line(text, 'defaults')}: defaults: "
    common = list(_mistakes(defaults, options, needed=()))
    faults += [at + fault for fault in common]
    for name, given in _tables(data.get("job", {})):
        at = f"{path}:{_line(text, 'job', name)}: job {name}: "
        own = [*_misnamed(name), *_mistakes(given, options, needed=_DISKS)]
        if not (own or common):
            job = _job(name, {**defaults, **given}, options)
            own = list(_refusals(job, check))
            jobs.append(job)
        faults += [at + fault for fault in own]
    return jobs, faults


def _tables(found: object) -> Iterator[tuple[str, Any]]:
    yield from found.items() if isinstance(found, dict) else ()


def _misnamed(name: str) -> Iterator[str]:
    if not _NAME.fullmatch(name):
        yield "a name has letters, digits, '.', '_' and '-'"


def _mistakes(given: Any, options: Mapping[str, bool], needed: tuple[str, ...]) -> Iterator[str]:
    if not isinstance(given, dict):
        yield "it has to be a table: [job.NAME], or [defaults]"
        return
    yield from (f"{key} is missing" for key in needed if key not in given)
    for key, value in given.items():
        if key not in options and key not in _OWN:
            yield f"there is no {key!r}{_meant(key, (*options, *_OWN))}"
        elif not _fits(key, value, options):
            yield f"{key} cannot be {value!r}"


def _fits(key: str, value: object, options: Mapping[str, bool]) -> bool:
    """Whether a value is of the right type."""
    if key == "groups":
        return isinstance(value, list) and all(isinstance(group, str) for group in value)
    if not options.get(key, True):
        return isinstance(value, bool)
    return isinstance(value, str) or (key not in _OWN and type(value) is int)


def _job(name: str, given: Mapping[str, Any], options: Mapping[str, bool]) -> Job:
    words: list[str] = []
    for key, value in given.items():
        if key in options and value is not False:
            words += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    hooks = tuple((when, given[when]) for when in HOOKS if when in given)
    source, destination = (given[key] for key in _DISKS)
    return Job(name, source, destination, tuple(words), frozenset(given.get("groups", ())), hooks)


def _refusals(job: Job, check: Check) -> Iterator[str]:
    """What the command line would say of it."""
    try:
        check(job.words)
    except BsyncError as error:
        yield error.message


def _line(text: str, *keys: str) -> int:
    """The line in which a table or a key is written, as far as can be told; else the first."""
    name = r"\s*\.\s*".join(f'"?{re.escape(key)}"?' for key in keys)
    found = re.search(rf"^\s*\[?\s*{name}\s*[\]=.]", text, re.MULTILINE)
    return text.count("\n", 0, found.end()) + 1 if found else 1


def _meant(key: str, known: tuple[str, ...]) -> str:
    found = get_close_matches(key, known, 1)
    return f" (did you mean {found[0]}?)" if found else ""
