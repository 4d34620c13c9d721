# SPDX-License-Identifier: GPL-2.0-only
"""What bash, zsh and fish make of a tabulator: the real ones, which find the functions where
`make docs` puts them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab import Lab
from terminal import Terminal, running

TOOLS = Path(__file__).parents[2] / "tools"
FILES = ("disk.img", "target.img", "spaced name.img", "colon:x.img", "vm.qcow2", "secret", "$x.img",
         "sub/inner.img", ".hidden.img")  # fmt: skip
JOBS = """
[defaults]
mistake = 1
[job.web-1]
source = "disk.img"
destination = "target.img"
groups = ["nightly", "web-all"]
[job.mail]
source = "disk.img"
"""
BEGIN, END = "\x01", "\r"  # Ctrl-A, Return

# What is written before a tabulator, and the words that there are then.
CASES = [
    ("insp", ["inspect"]),
    ("help rec", ["help", "recover"]),
    ("inspect dis", ["inspect", "disk.img"]),
    ("dis", ["disk.img"]),
    ("disk.img tar", ["disk.img", "target.img"]),
    ("disk.img --chec", ["disk.img", "--checksum"]),
    ("--chec", ["--checksum"]),
    ("--engine bl", ["--engine", "blocks"]),
    ("--engine=bl", ["--engine=blocks"]),
    ("verify --fil", ["verify", "--files"]),
    ("--password-file sec", ["--password-file", "secret"]),
    ("--snapshot-size 20% dis", ["--snapshot-size", "20%", "disk.img"]),
    ("lvm", ["lvm+snapshot://"]),
    ("disk.img isc", ["disk.img", "iscsi://"]),
    ("loop://dis", ["loop://disk.img"]),
    ("disk.img qcow2://vm", ["disk.img", "qcow2://vm.qcow2"]),
    ("loop://sub/in", ["loop://sub/inner.img"]),
    ("sub", ["sub/"]),
    ("loop://su", ["loop://sub/"]),
    ("spa", ["spaced name.img"]),
    ("spaced\\ na", ["spaced name.img"]),
    ("loop://spa", ["loop://spaced name.img"]),
    ("disk.img loop://spaced\\ na", ["disk.img", "loop://spaced name.img"]),
    ("col", ["colon:x.img"]),
    ("colon:", ["colon:x.img"]),
    ("loop://colon:x", ["loop://colon:x.img"]),
    ("\\$", ["$x.img"]),
    (".hid", [".hidden.img"]),
    ("nothing-like-it", ["nothing-like-it"]),
    ("disk.img target.img dis", ["disk.img", "target.img", "dis"]),
    ("file://x", ["file://x"]),
    ("jobs --file ../jobs.toml ch", ["jobs", "--file", "../jobs.toml", "check"]),
    ("run --file ../jobs.toml ma", ["run", "--file", "../jobs.toml", "mail"]),
    ("run --file=../jobs.toml ni", ["run", "--file=../jobs.toml", "nightly"]),
    (
        "run mail --file ../jobs.toml web-1 w",
        ["run", "mail", "--file", "../jobs.toml", "web-1", "web-all"],
    ),
    ("run --file ../no-such.toml we", ["run", "--file", "../no-such.toml", "we"]),
    ("run dis", ["run", "dis"]),
]

_ARGUMENTS = re.compile(r"((?:<[^<>\n]*>)+) :end")

Complete = Callable[[str], list[str]]


def started(shell: str, share: Path) -> tuple[list[str], str]:
    """The command that starts a shell with nothing of the user's, and what to type first: a
    function that shows its words, and what an ordinary configuration has."""
    words = "args() { printf '<%s>' \"$@\"; echo ' :end'; }; PS1='$ '"
    if shell == "bash":
        return ["bash", "--norc", "--noprofile", "-i"], (
            f". /usr/share/bash-completion/bash_completion; bind 'set bell-style none'; {words}"
        )
    if shell == "zsh":
        return ["zsh", "-f", "-i"], (
            f"fpath=({share}/zsh/site-functions $fpath); autoload -U compinit; compinit -u -D; "
            f"bindkey -e; unsetopt beep; {words}"
        )
    return ["fish", "--private", "-i"], (
        "function args; printf '<%s>' $argv; echo ' :end'; end; "
        "function fish_prompt; echo '$ '; end"
    )


@pytest.fixture(params=["bash", "zsh", "fish"])
def terminal(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Terminal]:
    """A shell in a folder with `FILES`."""
    for name in FILES:
        path = lab.folder / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (lab.folder / "jobs.toml").write_text(JOBS)
    share = lab.folder / "share"
    subprocess.run([sys.executable, TOOLS / "make_docs.py", share], check=True)
    program = lab.programs / "bsync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m bsync "$@"\n')
    program.chmod(0o755)
    environment = {
        **lab.environment, "HOME": str(lab.folder),
        "XDG_DATA_DIRS": f"{share}:/usr/local/share:/usr/share",
    }  # fmt: skip
    command, first = started(request.param, share)
    with running(command, environment) as terminal:
        terminal.type(f"{first}; cd {lab.folder}/here; args rea dy{END}")
        terminal.read_until_shown("<rea><dy> :end")
        yield terminal


@pytest.fixture
def complete(terminal: Terminal) -> Complete:
    """What becomes of words on a command line once a tabulator is typed."""

    def words(line: str) -> list[str]:
        before = len(_ARGUMENTS.findall(terminal.shown))
        terminal.type(f"bsync {line}\t{BEGIN}args {END}")
        terminal.read_until(lambda: len(_ARGUMENTS.findall(terminal.shown)) > before)
        found: str = _ARGUMENTS.findall(terminal.shown)[-1]
        return found[1:-1].split("><")[1:]

    return words


def test_words_are_completed(complete: Complete) -> None:
    wrong = {line: found for line, words in CASES if (found := complete(line)) != words}
    assert not wrong


def test_absolute_paths_behind_a_scheme(complete: Complete, lab: Lab) -> None:
    path = f"{lab.folder}/here/vm.qcow2"
    assert complete(f"disk.img qcow2://{path[:-3]}") == ["disk.img", f"qcow2://{path}"]
    assert complete(path[:-3]) == [path]


def test_what_there_is_is_listed(terminal: Terminal) -> None:
    """Commands, schemes and files: whatever may be the first word."""
    terminal.type("bsync \t\t")
    for name in ("inspect", "recover", "lvm+snapshot://", "qcow2://", "disk.img", "sub/"):
        terminal.read_until_shown(name)
    assert "error" not in terminal.shown.lower()


def asked(lab: Lab, *words: str, **environment: str) -> tuple[int, str, str]:
    """What `bsync` answers to a shell."""
    run = subprocess.run(
        [sys.executable, "-m", "bsync", *words], cwd=lab.folder, capture_output=True, text=True,
        env={**lab.environment, "_BSYNC_COMPLETE": "1", **environment}, check=False,
    )  # fmt: skip
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize(
    "words", [[], [""], ["/none/"], ["loop://"], ["--", "-"], ["-x", ""], ["a", "b", "c", ""],
              ["help", "x", ""], ["--engine=x"], ["--none="], ["loop:///root/\udcff"], ["~none/"]],
)  # fmt: skip
def test_a_shell_never_hears_of_an_error(lab: Lab, words: list[str]) -> None:
    status, _, err = asked(lab, *words)
    assert (status, err) == (0, "")


def test_names_that_would_break_the_answer_are_left_out(lab: Lab) -> None:
    for name in (b"a\nb", b"a\tb", b"a\xff", b"ab"):
        Path(os.fsdecode(os.fsencode(lab.folder) + b"/" + name)).write_bytes(b"")
    assert asked(lab, "inspect", "a")[1] == "ab\n"


def test_jobs_are_told_with_what_they_do(lab: Lab) -> None:
    file = lab.folder / "jobs.toml"
    file.write_text(JOBS)
    told = "mail\tdisk.img to ?\nnightly\tthe jobs web-1\n"
    assert asked(lab, "run", "--file", "jobs.toml", "web-1", "web-all", "")[1] == told
    assert asked(lab, "jobs", "")[1] == "check\n"
    for text in ("[job", "job = 1", "[job]\na = 1", "[job.a]\ngroups = 1", "\xff"):
        file.write_text(text, "latin-1")
        _, out, err = asked(lab, "run", "--file", str(file), "")
        assert (out.startswith("a\t") == ("a" in text), err) == (True, "")


def test_an_answer_imports_little(lab: Lab) -> None:
    _, _, err = asked(lab, "disk", "", PYTHONPROFILEIMPORTTIME="1")
    imported = {line.rpartition("|")[2].strip() for line in err.splitlines()}
    assert "bsync.completion" in imported
    assert not imported & {"numpy", "rich", "subprocess", "bsync.pipeline", "bsync.run"}
