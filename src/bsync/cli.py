# SPDX-License-Identifier: GPL-2.0-only
"""The commands and their options, declared once: parser, help, man page and completions.

Whatever is heavy is imported when a command runs, so that `bsync --help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bsync import __version__
from bsync.errors import Usage
from bsync.say import say
from bsync.units import parse_size

if TYPE_CHECKING:
    from bsync.pipeline import Request
    from bsync.plan.steps import Plan

_Command = TypeVar("_Command", bound=Callable[..., Any])

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
DEFAULT = "clone"


class Size(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A size in bytes: 1048576, 10G, 1.5T, 10GB."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(value)
        except Usage as error:
            self.fail(f"{error.message}: {error.hint}", param, ctx)


def _show_help(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    """Click's own way ends with an error where the output cannot be written."""
    if wanted and not ctx.resilient_parsing:
        say(*ctx.get_help().split("\n"))
        ctx.exit()


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        say(f"bsync {__version__}")
        ctx.exit()


class Command(click.Command):
    """A command whose help is said as all else is."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = _show_help
        return option


class Commands(Command, click.Group):
    """A group whose first word may be left out: `bsync SRC DEST` is `bsync clone SRC DEST`."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise Usage("no SRC and DEST given", "bsync --help shows commands and options")
        known = {*self.commands, "-h", "--help", "--version"}
        if args and args[0] not in known:
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)


_WORD = click.Path(readable=False)  # completed like a path; what it is, the stages find out


def _both(function: _Command) -> _Command:
    """SRC and DEST."""
    for name in ("DEST", "SRC"):
        function = click.argument(name.lower(), metavar=name, type=_WORD)(function)
    return function


def _json(function: _Command) -> _Command:
    text = "Write events as JSON lines to standard output."
    return _debug(click.option("--json", "as_json", is_flag=True, help=text)(function))


def _debug(function: _Command) -> _Command:
    text = "Show every command that is run (as BSYNC_DEBUG=1 does)."
    return click.option(
        "--debug", is_flag=True, is_eager=True, expose_value=False, callback=_set_debug, help=text
    )(function)


def _set_debug(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        os.environ["BSYNC_DEBUG"] = "1"


def _acquiring(function: _Command) -> _Command:
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
        type=Size(),
        metavar="SIZE",
        help="Copy-on-write space of the temporary LVM snapshot.",
    )
    return password(size(function))


def _sided(function: _Command) -> _Command:
    """What a side may need for itself."""
    for side, name in (("destination", "DEST"), ("source", "SRC")):
        text = f"Password for {name} alone, in place of --password-file."
        option = f"--{side}-password-file"
        function = click.option(option, type=click.Path(), metavar="FILE", help=text)(function)
    return function


def _planning(function: _Command) -> _Command:
    """The options that shape a plan."""
    options = (
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
    )
    for option in reversed(options):
        function = option(function)
    return _acquiring(_sided(function))


@click.group(cls=Commands, context_settings=CONTEXT)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def main() -> None:
    """Clone and synchronise disks at the filesystem level.

    bsync SRC DEST makes DEST a clone of SRC.  Both are one of: DEVICE (a block device or an
    image file, by path), loop://FILE, loop://DEVICE, iscsi://PORTAL[:PORT]/IQN[/LUN],
    lvm+snapshot://VG/LV, qcow2://FILE (also vmdk, vhdx, vpc, vdi), nbd://HOST[:PORT]/EXPORT.

    A destination partition whose filesystem has the source's UUID is synchronised: only what
    changed is transferred.  Any other is recreated, and copied whole.
    """


@main.command()
@_both
@click.option("-y", "--yes", is_flag=True, help="Do not ask before destroying data.")
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan, and change nothing.")
@_planning
@_json
def clone(src: str, dest: str, yes: bool, dry_run: bool, as_json: bool, **shape: Any) -> None:
    """Make DEST a clone of SRC (the command may be left out)."""
    from bsync import pipeline
    from bsync.report import reporting

    request = _request(src, dest, **shape)
    with reporting(as_json=as_json) as reporter:
        if dry_run:
            pipeline.plan(request, reporter.emit)
        else:
            pipeline.clone(request, reporter.emit, lambda plan: yes or _confirmed(plan))


@main.command()
@_both
@_planning
@_json
def plan(src: str, dest: str, as_json: bool, **shape: Any) -> None:
    """Show what a run would do, and change nothing."""
    from bsync import pipeline
    from bsync.report import reporting

    with reporting(as_json=as_json) as reporter:
        pipeline.plan(_request(src, dest, **shape), reporter.emit)


@main.command()
@_both
@click.option("--files", is_flag=True, help="Compare the trees, file by file, in any case.")
@_acquiring
@_sided
@_json
def verify(src: str, dest: str, files: bool, as_json: bool, **means: Any) -> None:
    """Compare DEST with SRC in everything, and change nothing.

    A clone made by blocks is compared by the blocks in use; where they differ, and for every
    other clone, the trees are compared, file by file.
    """
    from bsync import pipeline
    from bsync.report import reporting

    with reporting(as_json=as_json) as reporter:
        pipeline.check(_request(src, dest, trees=files, **means), reporter.emit)


@main.command()
@click.argument("src", metavar="SRC", type=_WORD)
@_acquiring
@_json
def inspect(src: str, as_json: bool, **means: Any) -> None:
    """Show what is on SRC."""
    from bsync import explain, pipeline
    from bsync.report import reporting

    with reporting(as_json=as_json) as reporter:
        side = pipeline.inspect(_request(src, **means), reporter.emit)
        text = json.dumps(explain.side_data(side)) if as_json else explain.layout_text(side)
        say(*text.split("\n"))


@main.command()
@_json
def recover(as_json: bool) -> None:
    """Release resources left by interrupted runs."""
    from bsync import pipeline
    from bsync.events import Finished, Noticed
    from bsync.report import reporting
    from bsync.units import count_text

    with reporting(as_json=as_json) as reporter:
        released = pipeline.recover()
        for what in released:
            reporter.emit(Noticed(f"released {what}"))
        reporter.emit(Finished(f"{count_text(len(released), 'resource')} released"))


def _request(
    src: str,
    dest: str = "",
    create: int | None = None,
    snapshot_size: int | None = None,
    password_file: str | None = None,
    source_password_file: str | None = None,
    destination_password_file: str | None = None,
    no_grow: bool = False,
    trees: bool = False,
    **options: Any,
) -> Request:
    from bsync.pipeline import Request
    from bsync.plan import Options

    shape = Options(**options, grow=not no_grow)
    size = snapshot_size or 0
    return Request(
        src,
        dest,
        shape,
        create or 0,
        size,
        password_file or "",
        source_password_file or "",
        destination_password_file or "",
        trees,
    )


def _confirmed(plan: Plan) -> bool:
    """Ask the one question there is.  Without a terminal nobody can answer it: no."""
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        return False
    say(f"Destroy this on {plan.destination.word}?")
    try:
        return input("Type yes to go on: ").strip().lower() == "yes"
    except EOFError:
        return False
