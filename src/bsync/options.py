# SPDX-License-Identifier: GPL-2.0-only
"""The options of the commands, each declared once."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import click

from bsync import trace
from bsync.parser import ShareOrSize, Size

_Command = TypeVar("_Command", bound=Callable[..., Any])

WORD = click.Path(readable=False)  # completed like a path; what it is, the stages find out


def both(function: _Command) -> _Command:
    """SRC and DEST."""
    for name in ("DEST", "SRC"):
        function = click.argument(name.lower(), metavar=name, type=WORD)(function)
    return function


def as_json(function: _Command) -> _Command:
    """--json, and how much else is shown."""
    text = "Write events as JSON lines to standard output."
    return _told(click.option("--json", "as_json", is_flag=True, help=text)(function))


def jobs_file(function: _Command) -> _Command:
    """--file, of the commands for jobs."""
    return click.option(
        "--file", type=click.Path(), metavar="FILE", default="/etc/bsync/jobs.toml",
        show_default=True, help="The jobs file.",
    )(function)  # fmt: skip


def quiet(function: _Command) -> _Command:
    """-q."""
    text = "Say nothing but what went wrong."
    return click.option("-q", "--quiet", is_flag=True, help=text)(function)


def _told(function: _Command) -> _Command:
    for names, level, text in (
        (("--debug",), trace.ALL, "Show all of every command that is run (as BSYNC_DEBUG=1 does)."),
        (("-v", "--verbose"), trace.COMMANDS, "Show every command that is run."),
    ):
        function = click.option(
            *names, is_flag=True, is_eager=True, expose_value=False, callback=_teller(level),
            help=text,
        )(function)  # fmt: skip
    return function


def _teller(variable: str) -> Callable[[click.Context, click.Parameter, bool], None]:
    def tell(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
        if wanted and not ctx.resilient_parsing:
            os.environ[variable] = "1"

    return tell


def acquiring(function: _Command) -> _Command:
    """The options that acquiring a device may need."""
    password = click.option(
        "--password-file",
        type=click.Path(),
        metavar="FILE",
        help="CHAP password for iSCSI: the file's first line; a second one, USER:PASSWORD, is the "
        "target's (mutual CHAP).",
    )
    size = click.option(
        "--snapshot-size",
        type=ShareOrSize(),
        metavar="SIZE|N%",
        help="Copy-on-write space of the temporary LVM snapshot, or its share of the volume.",
    )
    wait = click.option(
        "--wait",
        type=click.IntRange(0),
        metavar="SECONDS",
        default=0,
        help="Wait so long for a device that something else uses, before giving up.",
    )
    return password(size(wait(function)))


def sided(function: _Command) -> _Command:
    """What a side may need for itself."""
    for side, name in (("destination", "DEST"), ("source", "SRC")):
        text = f"Password for {name} alone, in place of --password-file."
        option = f"--{side}-password-file"
        function = click.option(option, type=click.Path(), metavar="FILE", help=text)(function)
    return function


_PLANNING: tuple[Callable[[Any], Any], ...] = (
    click.option(
        "--engine",
        type=click.Choice(["auto", "blocks", "files", "raw"]),
        default="auto",
        show_default=True,
        help="How contents are copied: blocks (ext2/3/4), files (rsync), raw (as they are).",
    ),
    click.option(
        "--raw",
        is_flag=True,
        help="Copy contents of unsupported kind byte by byte.",
    ),
    click.option(
        "--checksum",
        is_flag=True,
        help="Compare contents instead of times and inodes (e.g. after a crash).",
    ),
    click.option(
        "--no-grow",
        is_flag=True,
        help="Do not grow the filesystem to fill a larger destination.",
    ),
    click.option(
        "--create",
        type=Size(),
        metavar="SIZE",
        help="Create DEST as a sparse image file of SIZE.",
    ),
    click.option(
        "--transaction",
        is_flag=True,
        help="Write a copy of the image DEST that shares its extents (XFS, btrfs), and rename it "
        "into place at success.",
    ),
    click.option(
        "--keep",
        type=click.IntRange(1),
        metavar="N",
        help="The same, and keep the N images before it as DEST.1 (the youngest) to DEST.N.",
    ),
    click.option(
        "--bwlimit",
        type=Size(),
        metavar="RATE",
        help="Copy at most RATE bytes a second (10M), whatever the engine.",
    ),
)


def planning(function: _Command) -> _Command:
    """The options that shape a plan."""
    function = acquiring(sided(function))
    for option in reversed(_PLANNING):
        function = option(function)
    return function
