# SPDX-License-Identifier: GPL-2.0-only
"""What the shells offer for a word that is being written.

The shells' functions (tools/completions) run `bsync` with `_BSYNC_COMPLETE` in its environment, the
words of the line as its arguments, the unfinished one last.  Each line of the answer is a whole
word, after a tab what it means; what ends in `/` is to be gone on with.  Nothing else is ever said,
and nothing is run for it.  Of the jobs file only the names count, whatever mistakes it has.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from bsync.locate import IMAGE_FORMATS, SCHEMES
from bsync.parser import DEFAULT

_FILES = ("loop", *IMAGE_FORMATS)  # schemes that are followed by a path
_VOLUMES = "lvm+snapshot"
_MEANINGS = {
    "iscsi": "a LUN of an iSCSI target: PORTAL[:PORT]/IQN[/LUN]",
    "loop": "an image file, or a device treated as one",
    "nbd": "an export of an NBD server: HOST[:PORT]/EXPORT",
    "nbd+unix": "the same by a socket: /EXPORT?socket=PATH",
    _VOLUMES: "a logical volume: VG/LV",
}
_SYSFS = Path("/sys/class/block")
_DISKS = ("source", "destination")
_JOBS_FILE = "--file"  # the option that names it

Offer = tuple[str, str]  # a word, and what it means


def answer(group: click.Group, words: list[str]) -> None:
    """Write what the last of `words` may become to standard output."""
    lines = [
        word if not meaning else f"{word}\t{meaning}"
        for word, meaning in offers(group, words)
        if word.isprintable()
    ]
    with contextlib.suppress(OSError):
        os.write(1, "".join(f"{line}\n" for line in lines).encode())


def offers(group: click.Group, words: list[str]) -> Iterator[Offer]:
    """What the last of `words` may become."""
    *before, word = words or [""]
    with click.Context(group, info_name="bsync") as ctx:
        name, command, first = _command(group, before)
        written = before[1:] if name else before
        option, places = _placed(command, written, ctx)
        if option is not None:
            yield from _values(option, word)
        elif word.startswith("-"):
            joined, equals, value = word.partition("=")
            if equals:
                options = _options(command, ctx)
                for found, meaning in _values(options.get(joined), value):
                    yield f"{joined}={found}", meaning
            else:
                yield from _matching(_option_offers(command, ctx), word)
            if first:
                yield from _matching([("--version", "Show the version and exit")], word)
        else:
            if first:
                yield from _matching(_commands(group), word)
            yield from _argument(group, command, places, word)
            if name == "run":
                jobs = _jobs(_file(command, written, ctx))
                left = ((job, what) for job, what in sorted(jobs.items()) if job not in written)
                yield from _matching(left, word)


def _command(group: click.Group, before: list[str]) -> tuple[str, click.Command, bool]:
    """The command that is written, its name if it is, and whether one may be written here."""
    if before and before[0] in group.commands:
        return before[0], group.commands[before[0]], False
    return "", group.commands[DEFAULT], not before


def _options(command: click.Command, ctx: click.Context) -> dict[str, click.Parameter]:
    return {
        name: parameter
        for parameter in command.get_params(ctx)
        if isinstance(parameter, click.Option)
        for name in parameter.opts
    }


def _placed(
    command: click.Command, before: Iterable[str], ctx: click.Context
) -> tuple[click.Parameter | None, int]:
    """The option whose value comes next, if one does; and how many arguments there are."""
    options, places, rest = _options(command, ctx), 0, False
    waiting: click.Parameter | None = None
    for word in before:
        if waiting is not None:
            waiting = None
        elif rest or not word.startswith("-") or word == "-":
            places += 1
        elif word == "--":
            rest = True
        else:
            option = options.get(word)
            waiting = None if option is None or getattr(option, "is_flag", False) else option
    return waiting, places


def _option_offers(command: click.Command, ctx: click.Context) -> Iterator[Offer]:
    for parameter in command.get_params(ctx):
        if isinstance(parameter, click.Option):
            yield max(parameter.opts, key=len), (parameter.help or "").partition(":")[0].rstrip(".")


def _commands(group: click.Group) -> Iterator[Offer]:
    for name, command in sorted(group.commands.items()):
        yield name, command.get_short_help_str(80).rstrip(".")


def _matching(found: Iterable[Offer], word: str) -> Iterator[Offer]:
    return (offer for offer in found if offer[0].startswith(word))


def _values(option: click.Parameter | None, word: str) -> Iterator[Offer]:
    if option is None:
        return
    if isinstance(option.type, click.Choice):
        yield from _matching(((str(choice), "") for choice in option.type.choices), word)
    elif isinstance(option.type, click.Path):
        yield from _paths(word)


def _argument(
    group: click.Group, command: click.Command, places: int, word: str
) -> Iterator[Offer]:
    arguments = [one for one in command.params if isinstance(one, click.Argument)]
    if places >= len(arguments) or arguments[places].nargs < 0:
        return
    if isinstance(arguments[places].type, click.Path):
        yield from _devices(word)
    elif isinstance(arguments[places].type, click.Choice):
        yield from _values(arguments[places], word)
    else:
        yield from _matching(_commands(group), word)


def _file(command: click.Command, written: list[str], ctx: click.Context) -> str:
    """The jobs file that the words name, or else the usual one."""
    for number, word in enumerate(written):
        if word == _JOBS_FILE and number + 1 < len(written):
            return written[number + 1]
        if word.startswith(f"{_JOBS_FILE}="):
            return word.partition("=")[2]
    return str(_options(command, ctx)[_JOBS_FILE].default)


def _jobs(file: str) -> dict[str, str]:
    """The jobs of a file that can be read, and their groups, with what they mean."""
    import tomllib

    jobs: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    with contextlib.suppress(OSError, ValueError):
        path = Path(os.path.expanduser(file))
        found = tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        for name, job in _table(found.get("job")).items():
            jobs[name] = " to ".join(str(_table(job).get(key, "?")) for key in _DISKS)
            belongs = _table(job).get("groups", _table(found.get("defaults")).get("groups"))
            for group in belongs if isinstance(belongs, list) else ():
                groups.setdefault(str(group), []).append(name)
    return {group: f"the jobs {', '.join(names)}" for group, names in groups.items()} | jobs


def _table(found: object) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}


def _devices(word: str) -> Iterator[Offer]:
    scheme, found, rest = word.partition("://")
    if not found:
        schemes = ((f"{name}://", _MEANINGS.get(name, f"a {name} image")) for name in SCHEMES)
        yield from _matching(schemes, word)
        yield from _paths(word)
    elif scheme in _FILES:
        for path, meaning in _paths(rest):
            yield f"{scheme}://{path}", meaning
    elif scheme == _VOLUMES:
        yield from _matching(((f"{scheme}://{name}", "") for name in _volumes(rest)), word)


def _paths(word: str) -> Iterator[Offer]:
    """The files that begin so; of those that are hidden only where a dot is written."""
    folder, name = os.path.split(word)
    with contextlib.suppress(OSError), os.scandir(os.path.expanduser(folder) or ".") as entries:
        for entry in sorted(entries, key=lambda one: one.name):
            if entry.name.startswith(name) and (name or not entry.name.startswith(".")):
                tail = "/" if entry.is_dir() else ""
                yield os.path.join(folder, entry.name) + tail, ""


def _volumes(word: str) -> list[str]:
    """VG/LV of every logical volume that is active and not a part of another; up to the slash if
    none is written yet."""
    names = []
    for place in sorted(_SYSFS.glob("dm-*/dm")):
        with contextlib.suppress(OSError):
            kind, _, rest = (place / "uuid").read_text().strip().partition("-")
            if kind == "LVM" and "-" not in rest:
                # One hyphen stands between the two names; those within them are doubled.
                name = (place / "name").read_text().strip().replace("--", "\0")
                names.append(name.replace("-", "/", 1).replace("\0", "-"))
    if "/" in word:
        return sorted(names)
    return sorted({name.partition("/")[0] + "/" for name in names})
