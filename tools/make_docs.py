# SPDX-License-Identifier: GPL-2.0-only
"""Make the man page from the declaration of the options, and put the completions beside it.

    python tools/make_docs.py FOLDER

writes FOLDER/man/man8/bsync.8, and the completions where bash, zsh and fish look for them: FOLDER
is the share of a prefix.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import click

from bsync import __version__, errors, parser
from bsync.cli import main as commands

_COMPLETIONS = {
    "bsync.bash": "bash-completion/completions/bsync",
    "_bsync": "zsh/site-functions/_bsync",
    "bsync.fish": "fish/vendor_completions.d/bsync.fish",
}
_FUNCTIONS = Path(__file__).parent / "completions"
_CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"

_DOCUMENTS = ("CHANGELOG.md", "COPYING", "README.md", "SECURITY.md")

_LOCATORS = """\
.SH DEVICES
SRC and DEST each name a device in one of these ways:
.TP
.I DEVICE
A block device by its path; symbolic links are followed.
A regular file is taken as an image, as with
.BR loop:// .
.TP
.BI loop:// FILE \\fR|\\fP DEVICE
An image file, or a device treated as one.
.B loop:///abs
is absolute,
.B loop://rel
relative.
.TP
.BI iscsi:// \\fR[\\fPUSER @\\fR]\\fPPORTAL\\fR[\\fP: PORT\\fR]\\fP / IQN\\fR[\\fP/ LUN\\fR]\\fP
A LUN of an iSCSI target; without LUN the only disk that the target has.
The password comes from
.B --source-password-file
or
.BR --destination-password-file ,
from
.BR --password-file ,
from the credentials
.B bsync.source-password
or
.BR bsync.destination-password ,
or
.BR bsync.password ,
that systemd passes (LoadCredential=), from the environment, or from a prompt, in this order.
.TP
.BI lvm+snapshot:// VG / LV
A logical volume.
A source is read through a snapshot, so that it may be in use; a destination is written to a
snapshot, which is merged into the volume at success and dropped at failure.
.TP
.BI qcow2:// FILE
The disk in an image; also
.BR vmdk:// ,
.BR vhdx:// ,
.B vpc://
and
.BR vdi:// .
.TP
.BI nbd:// HOST\\fR[\\fP: PORT\\fR]\\fP / EXPORT
An export of an NBD server; by a socket of this machine
.BI nbd+unix:/// EXPORT ?socket= PATH\\fR.\\fP
"""

_RULES = """\
.SH WHAT IS DONE
A destination partition whose filesystem is of the source's kind and has its UUID is
.IR synchronised :
only what changed is transferred.
Any other is recreated, with the source's kind, UUID, label and features, and gets everything.
.PP
A destination whose table has every partition of the source, by number and of the same type,
at the same size or greater, keeps its table and gets only the boot code (446 bytes, and what
the boot loader keeps before the first partition).
Otherwise the source's table is copied; onto a disk too small for it, a table with smaller
partitions is made, if all files fit.
.PP
Swap areas are recreated with their UUID and label; their contents are never copied.
Contents of unknown kind are refused by name, or copied with
.BR --raw .
.PP
The source is never written to, and must not be mounted.
Nothing is written to the destination before the whole plan is known and shown.
What would be destroyed is asked for once;
.B --yes
answers.
.PP
While a run is on, every filesystem of the destination has the label
.B bsync-incomplete
and another UUID, and a boot code that says so; the next run completes it.
"""

_EXAMPLES = """\
.SH EXAMPLES
A disk to an image file, first once and then every night:
.PP
.EX
bsync /dev/sdb /backup/sdb.img \\-\\-create 500G
bsync /dev/sdb /backup/sdb.img
.EE
.PP
A running server to a LUN, through a snapshot:
.PP
.EX
bsync lvm+snapshot://vg0/server iscsi://storage.example/iqn.2004\\-10.org.example:server
.EE
.PP
The same every night at two, by systemd; these lines are
.IR /etc/bsync/server.conf :
.PP
.EX
SOURCE=lvm+snapshot://vg0/server
DESTINATION=iscsi://storage.example/iqn.2004\\-10.org.example:server
.EE
.PP
and these commands begin it:
.PP
.EX
mkdir \\-p \\-m 700 /etc/credstore.encrypted
systemd\\-creds encrypt \\-\\-name=bsync.password \\- /etc/credstore.encrypted/bsync.password
systemctl enable \\-\\-now bsync@server.timer
systemctl enable bsync\\-recover.service
.EE
.PP
Back, onto a new disk that is at least as large, and the proof:
.PP
.EX
bsync /backup/sdb.img /dev/sdc
bsync verify /backup/sdb.img /dev/sdc
.EE
.SH NOTES
The source is a disk at rest, or a snapshot of it: a filesystem that is in use is refused.
A clone has the UUIDs of its source; do not mount both by UUID on one machine.
.SH JSON
With
.B \\-\\-json
standard output has one object a line, with a member
.I event
that says what it is;
.B bsync inspect \\-\\-json
ends with an object that describes the device.
"""

_ENVIRONMENT = """\
.SH ENVIRONMENT
.TP
.B BSYNC_DEBUG
If set, as by
.BR --debug ,
show every command that is run, how it ended and what it complained of, and a traceback on internal
errors.
.TP
.B BSYNC_VERBOSE
If set, as by
.BR --verbose ,
show every command that is run.
.TP
.B BSYNC_ISCSI_PASSWORD
The password for iSCSI, where neither a file nor a credential has it.
.TP
.BR BSYNC_ISCSI_SOURCE_PASSWORD ", " BSYNC_ISCSI_DESTINATION_PASSWORD
The same for SRC or DEST alone; comes first.
.TP
.B CREDENTIALS_DIRECTORY
Where systemd puts a service's credentials.
.TP
.B JOURNAL_STREAM
As systemd sets it: lines that go to the journal have levels there, so that
.B journalctl \\-p notice \\-u bsync@NAME
shows how each night ended, and what went wrong.
.TP
.B BSYNC_RUNTIME_DIR
Where ledgers and mount points are kept, instead of
.IR /run/bsync .
.SH FILES
.TP
.IR /run/bsync/ run /ledger
What the run holds: one line is written before each acquisition, and one after.
.TP
.IR /etc/bsync/ NAME .conf
What the unit
.BI bsync@ NAME .service
does:
.BR SOURCE ", " DESTINATION " and " OPTIONS .
.SH SEE ALSO
.BR rsync (1),
.BR mke2fs (8),
.BR sfdisk (8),
.BR losetup (8)
"""


def escaped(text: str) -> str:
    """`text` as roff prints it."""
    quoted = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + quoted if quoted.startswith((".", "'")) else quoted


def date() -> str:
    """The day of this version, as the changelog has it."""
    entry = rf"^## {re.escape(__version__)} \((\S+)\)$"
    found = re.search(entry, _CHANGELOG.read_text(), re.MULTILINE)
    if not found:
        raise ValueError(f"CHANGELOG.md does not begin an entry by '## {__version__} (DATE)'")
    return found[1]


def page() -> str:
    """The man page, bsync(8)."""
    context = click.Context(commands, info_name="bsync")
    text = "\n".join(
        [
            f'.TH BSYNC 8 "{date()}" "bsync {__version__}" "System administration"',
            ".SH NAME",
            f"bsync \\- {_first_line(commands).lower()}",
            *_synopsis(),
            ".SH DESCRIPTION",
            *_paragraphs(commands.help or ""),
            _LOCATORS.rstrip(),
            _RULES.rstrip(),
            ".SH COMMANDS",
            *_commands(),
            ".SH OPTIONS",
            *_options(context),
            _EXAMPLES.rstrip(),
            ".SH EXIT STATUS",
            *_statuses(),
            _ENVIRONMENT,
        ]
    )
    return "\n".join(_filled(text.rstrip().split("\n")))


def _filled(lines: list[str]) -> Iterator[str]:
    """Lines of 80 bytes at most, no paragraph where a section has just begun."""
    before, printed = "", False
    for line in lines:
        if line == ".PP" and before.startswith((".SH", ".SS")):
            continue
        before = line
        printed = line == ".EX" or (printed and line != ".EE")  # as it stands
        if printed or line.startswith("."):
            yield line
            continue
        first, *rest = textwrap.wrap(line, 78, break_long_words=False, break_on_hyphens=False)
        yield first
        yield from (f"\\&{more}" if more.startswith((".", "'")) else more for more in rest)


def _synopsis() -> Iterator[str]:
    yield ".SH SYNOPSIS"
    for name in sorted(commands.commands):
        arguments = (p for p in commands.commands[name].params if isinstance(p, click.Argument))
        words = " ".join(f"\\fI{argument.metavar}\\fP" for argument in arguments)
        shown = f"[{name}]" if name == parser.DEFAULT else name
        yield f".PP\n.B bsync\n{escaped(shown)} [\\fIoption\\fP ...] {words}".rstrip()


def _commands() -> Iterator[str]:
    for name, command in sorted(commands.commands.items()):
        yield f".SS bsync {escaped(name)}"
        yield from _paragraphs(command.help or "")


def _options(context: click.Context) -> Iterator[str]:
    """Each option once, with the commands that take it unless all do."""
    takers: dict[tuple[str, str], list[str]] = {}
    for name, command in sorted(commands.commands.items()):
        for option in command.params:
            record = option.get_help_record(context)
            if isinstance(option, click.Option) and record:
                takers.setdefault(record, []).append(name)
    for (words, text), names in sorted(takers.items(), key=lambda item: item[0][0].lstrip("-")):
        yield f".TP\n.B {escaped(words)}\n{escaped(text)}".replace("\n\n", "\n")
        if len(names) < len(commands.commands):
            yield f"({escaped(', '.join(names))})"


def _statuses() -> Iterator[str]:
    for status, meaning in errors.MEANING.items():
        yield f".TP\n.B {int(status)}\n{escaped(meaning[0].upper() + meaning[1:])}."


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield ".PP"
        yield escaped(" ".join(paragraph.split()))


def _first_line(command: click.Command) -> str:
    return (command.help or "").strip().splitlines()[0].rstrip(".")


def main(folder: Path) -> None:
    """Write everything below `folder`."""
    files = {"man/man8/bsync.8": page()}
    files |= {place: (_FUNCTIONS / name).read_text() for name, place in _COMPLETIONS.items()}
    for place, text in files.items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.rstrip() + "\n")


def installed(root: Path, made: Path) -> dict[Path, list[Path]]:
    """What belongs below a prefix, by folder: what `main` wrote to `made`, and documentation.

    Both are as seen from `root`, the repository.
    """
    share = Path("share")
    wanted: dict[Path, list[Path]] = {
        share / "doc/bsync": [Path(name) for name in _DOCUMENTS],
        share / "doc/bsync/docs": [path.relative_to(root) for path in root.glob("docs/*.*")],
    }
    for path in (root / made).rglob("*"):
        if path.is_file():
            place = path.relative_to(root / made)
            wanted.setdefault(share / place.parent, []).append(made / place)
    return wanted


if __name__ == "__main__":
    main(Path(sys.argv[1]))
