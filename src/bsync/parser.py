# SPDX-License-Identifier: GPL-2.0-only
"""What the command line's parser does otherwise than click: `bsync SRC DEST` comes first, help is
said as all else is, and a mistake is told in one line with what may have been meant."""

from __future__ import annotations

import os
from typing import Any

import click

from bsync.errors import Usage
from bsync.say import say
from bsync.units import Share, parse_share, parse_size

DEFAULT = "clone"
_ALIKE = 0.75  # how much a word is like a command that was meant


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


class ShareOrSize(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A size in bytes, or a share of another: 10G, 20%."""

    name = "size"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Share:
        if isinstance(value, Share):
            return value
        try:
            return parse_share(value)
        except Usage as error:
            self.fail(f"{error.message}: {error.hint}", param, ctx)


def show_help(ctx: click.Context, _param: click.Parameter, wanted: bool) -> None:
    """Click's own way ends with an error where the output cannot be written."""
    if wanted and not ctx.resilient_parsing:
        say(*ctx.get_help().split("\n"))
        ctx.exit()


class Command(click.Command):
    """A command whose help is said as all else is."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = show_help
        return option


class Commands(Command, click.Group):
    """A group whose first word may be left out: `bsync SRC DEST` is `bsync clone SRC DEST`."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise Usage("no SRC and DEST given", "bsync --help shows commands and options")
        known = {*self.commands, "-h", "--help", "--version"}
        if args and args[0] not in known:
            _refuse_misspelt(args[0], self.commands)
            args = [DEFAULT, *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The main form first."""
        formatter.write_usage(ctx.command_path, "SRC DEST [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGUMENTS] [OPTIONS]", " " * 7)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options of the main form, then those of no command, then the commands."""
        main = self.commands[DEFAULT]
        with formatter.section("Options of bsync SRC DEST"):
            formatter.write_dl(_records(main, ctx))
        with formatter.section("Other options"):
            formatter.write_dl(_records(self, ctx))
        self.format_commands(ctx, formatter)


def _records(command: click.Command, ctx: click.Context) -> list[tuple[str, str]]:
    """Each option as it is written, and its help; --help is that of `ctx`."""
    own = command.params if command is not ctx.command else command.get_params(ctx)
    records = (option.get_help_record(ctx) for option in own if isinstance(option, click.Option))
    return [record for record in records if record]


def _refuse_misspelt(word: str, commands: Any) -> None:
    """Raise `Usage` for a first word that is no device here, but nearly a command."""
    if word.isalpha() and not os.path.lexists(word) and (meant := alike(word, commands)):
        raise Usage(f"there is no command {word}, and no such file", f"did you mean bsync {meant}?")


def alike(word: str, known: Any) -> str:
    """What of `known` was probably meant; empty for nothing."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(word, list(known), 1, _ALIKE)), "")


def explained(error: click.ClickException) -> Usage:
    """What click says of a wrong command line, in our words."""
    ctx = getattr(error, "ctx", None)
    where = ctx.command_path if ctx else "bsync"
    shows = f"{where.removesuffix(f' {DEFAULT}')} --help shows how it is used"
    if isinstance(error, click.NoSuchOption):
        meant = f"did you mean {' or '.join(error.possibilities)}? " if error.possibilities else ""
        hint = _others(error.option_name, ctx) or meant + shows
        return Usage(f"there is no option {error.option_name} here", hint)
    message = error.format_message().rstrip(".")
    return Usage(message[:1].lower() + message[1:], shows)


def _others(option: str, ctx: click.Context | None) -> str:
    """Which commands have the option that this one lacks."""
    group = ctx.find_root().command if ctx else None
    if not isinstance(group, click.Group):
        return ""
    names = [
        f"bsync {name}"
        for name, command in sorted(group.commands.items())
        if any(option in parameter.opts for parameter in command.params)
    ]
    return f"it is an option of {', '.join(names)}" if names else ""
