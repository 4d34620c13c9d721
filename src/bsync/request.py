# SPDX-License-Identifier: GPL-2.0-only
"""What is asked for, whoever asks: a command line, or a job of the jobs file.  Pure."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bsync.locate import Locator, parse
from bsync.plan.steps import Options
from bsync.units import USUAL, Share

_USUAL_OPTIONS = Options()


@dataclass(frozen=True)
class Request:
    """One or two sides, and how they are to be treated."""

    source: Locator
    destination: Locator | None = None  # None: only the source is looked at
    options: Options = _USUAL_OPTIONS
    create: int = 0  # bytes of an image file to make; 0: it exists
    snapshot_size: Share = USUAL  # of a classic LVM snapshot
    password_file: str = ""  # for iSCSI, of both sides; see `passwords`
    source_password_file: str = ""
    destination_password_file: str = ""
    trees: bool = False  # a verification is to compare trees in any case
    keep: int | None = None  # generations of an image that is written as a whole, if it is
    wait: int = 0  # seconds for a device that something else uses
    rate: int = 0  # bytes a second to be copied at most; 0: as fast as it goes

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Request:
        """From the arguments and options of a command, by name; what is None was not given.

        Raises `Usage` for a word that names nothing.
        """
        known = {name: value for name, value in given.items() if value is not None}
        known = {_NAMES.get(name, name): value for name, value in known.items()}
        source = parse(known.pop("source"))
        destination = parse(known.pop("destination")) if "destination" in known else None
        shape = {name: known.pop(name) for name in _SHAPING if name in known}
        shape["grow"] = not known.pop("no_grow", False)
        if known.pop("transaction", False):
            known.setdefault("keep", 0)
        return cls(source, destination, Options(**shape), **known)

    @property
    def locators(self) -> tuple[Locator, ...]:
        return (self.source,) if self.destination is None else (self.source, self.destination)

    @property
    def mending(self) -> str:
        """The command that makes the destination a clone again, whatever is wrong with it."""
        return shlex.join(["bsync", "--checksum", *map(str, self.locators)])


_NAMES = {"src": "source", "dest": "destination", "bwlimit": "rate"}
_SHAPING = {field.name for field in fields(Options)} - {"grow"}
