# SPDX-License-Identifier: GPL-2.0-only
"""The commands and their options, declared once: parser, help, man page and completions.

Whatever is heavy is imported when a command runs, so that `bsync --help` answers at once.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

import click

from bsync import __version__, options
from bsync.errors import Usage
from bsync.parser import Commands, alike, explained
from bsync.say import say

if TYPE_CHECKING:
    from bsync.jobs.jobfile import Job
    from bsync.plan.steps import Plan
    from bsync.request import Request

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _show_version(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        say(f"bsync {__version__}")
        ctx.exit()


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
@options.both
@click.option("-y", "--yes", is_flag=True, help="Do not ask before destroying data.")
@click.option("-n", "--dry-run", is_flag=True, help="Show the plan, and change nothing.")
@options.planning
@options.quiet
@options.as_json
def clone(
    src: str, dest: str, yes: bool, dry_run: bool, quiet: bool, as_json: bool, **shape: Any
) -> None:
    """Make DEST a clone of SRC (the command may be left out)."""
    from bsync import pipeline
    from bsync.report import reporting

    with reporting(src, dest, as_json=as_json, quiet=quiet and not dry_run) as reporter:
        request = _request(src, dest, **shape)
        if dry_run:
            pipeline.plan(request, reporter.emit)
        else:
            pipeline.clone(request, reporter.emit, lambda plan: yes or _confirmed(plan, quiet))


@main.command()
@options.both
@options.planning
@options.as_json
def plan(src: str, dest: str, as_json: bool, **shape: Any) -> None:
    """Show what a run would do, and change nothing."""
    from bsync import pipeline
    from bsync.report import reporting

    with reporting(src, dest, as_json=as_json) as reporter:
        pipeline.plan(_request(src, dest, **shape), reporter.emit)


@main.command()
@options.both
@click.option("--files", is_flag=True, help="Compare the trees, file by file, in any case.")
@options.acquiring
@options.sided
@options.quiet
@options.as_json
def verify(src: str, dest: str, files: bool, quiet: bool, as_json: bool, **means: Any) -> None:
    """Compare DEST with SRC in everything, and change nothing.

    A clone made by blocks is compared by the blocks in use; where they differ, and for every
    other clone, the trees are compared, file by file.
    """
    from bsync import pipeline
    from bsync.report import reporting

    with reporting(src, dest, as_json=as_json, quiet=quiet) as reporter:
        pipeline.check(_request(src, dest, trees=files, **means), reporter.emit)


@main.command()
@click.argument("src", metavar="SRC", type=options.WORD)
@options.acquiring
@options.as_json
def inspect(src: str, as_json: bool, **means: Any) -> None:
    """Show what is on SRC."""
    from bsync import pipeline
    from bsync.jsonlines import JsonReporter
    from bsync.report import reporting
    from bsync.screen.layouts import layout_text

    with reporting(src, as_json=as_json) as reporter:
        side = pipeline.inspect(_request(src, **means), reporter.emit)
        if isinstance(reporter, JsonReporter):
            reporter.inspected(side)
        else:
            say(*layout_text(side, shutil.get_terminal_size().columns).split("\n"))


@main.command()
@options.quiet
@options.as_json
def recover(quiet: bool, as_json: bool) -> None:
    """Release resources left by interrupted runs."""
    from bsync import pipeline
    from bsync.events import Finished, Notice, Noticed
    from bsync.report import reporting
    from bsync.units import count_text

    with reporting(as_json=as_json, quiet=quiet) as reporter:
        released = pipeline.recover()
        for what in released:
            reporter.emit(Noticed(Notice.RELEASED, f"released {what}"))
        reporter.emit(Finished(f"{count_text(len(released), 'resource')} released"))


@main.command("run")
@click.argument("names", metavar="NAME...", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="Run every job of the file.")
@options.jobs_file
@click.option(
    "--parallel", type=click.IntRange(1), metavar="N", default=1, help="So many jobs at once."
)
@click.option(
    "--metrics", type=click.Path(), metavar="FILE",
    help="Bring FILE up to date for Prometheus: it should end with .prom.",
)  # fmt: skip
def run_(
    names: tuple[str, ...], everything: bool, file: str, parallel: int, metrics: str | None
) -> int:
    """Run jobs of the jobs file by their names or groups."""
    from bsync.jobs import command

    return command.run(_jobs(file), names, everything, parallel, metrics or "")


@main.command()
@click.argument("what", metavar="[check]", required=False, type=click.Choice(["check"]))
@options.jobs_file
def jobs(what: str | None, file: str) -> None:
    """Show the jobs of the jobs file, or only check it."""
    from bsync.jobs import command

    command.show(_jobs(file), only_check=what == "check", file=file)


@main.command("help")
@click.argument("command", metavar="[COMMAND]", required=False)
@click.pass_context
def help_(ctx: click.Context, command: str | None) -> None:
    """Show what bsync does, or one of its commands."""
    root = ctx.find_root()
    if command is None:
        say(*root.get_help().split("\n"))
        return
    if (wanted := main.commands.get(command)) is None:
        meant = alike(command, main.commands)
        hint = f"did you mean bsync help {meant}?" if meant else "bsync help shows what there is"
        raise Usage(f"there is no command {command}", hint)
    with click.Context(wanted, root, command) as asked:
        say(*asked.get_help().split("\n"))


def _jobs(file: str) -> list[Job]:
    """The jobs of a file that is in order.  Raises `Usage`, `Unavailable`."""
    from bsync.jobs import command

    known = {
        option.opts[-1].removeprefix("--"): not option.is_flag
        for option in clone.params
        if isinstance(option, click.Option) and option.expose_value
    }
    for name in ("dry-run", "quiet", "json"):
        known.pop(name, None)
    return command.jobs_of(file, known, _check_words)


_NOT_ASKED = ("yes", "dry_run", "quiet", "as_json")  # of the pipeline


def _check_words(words: list[str]) -> None:
    """Raise `Usage` for a command line that bsync would not take."""
    try:
        with clone.make_context(
            "clone", words[1:], parent=click.Context(main, info_name="bsync")
        ) as asked:
            given = {name: asked.params[name] for name in asked.params if name not in _NOT_ASKED}
    except click.ClickException as error:
        raise explained(error) from None
    _request(**given)


def _request(src: str, dest: str | None = None, **given: Any) -> Request:
    from bsync.request import Request

    return Request.of({"src": src, "dest": dest, **given})


def _confirmed(plan: Plan, unseen: bool) -> bool:
    """Ask the one question there is.  Without a terminal nobody can answer it: no."""
    from bsync.screen.plans import plan_text

    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout)):
        return False
    if unseen:
        say(*plan_text(plan, shutil.get_terminal_size().columns).split("\n"))
    say(f"Destroy this on {plan.destination.word}?")
    try:
        return input("Type yes to go on: ").strip().lower() == "yes"
    except EOFError:
        return False
