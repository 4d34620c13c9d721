# SPDX-License-Identifier: GPL-2.0-only
"""What is offered for a word; tests/host/test_completion.py has what shells make of it."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from bsync import completion
from bsync.cli import main
from bsync.locate import SCHEMES


def words(*line: str) -> list[str]:
    return [word for word, _ in completion.offers(main, list(line))]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_word() -> None:
    assert words("") == [*sorted(main.commands), *(f"{name}://" for name in SCHEMES)]


def test_the_second_word() -> None:
    assert words("a", "") == [f"{name}://" for name in SCHEMES]
    assert words("verify", "a", "--files", "q") == ["qcow2://"]
    assert words("a", "b", "") == words("inspect", "a", "") == words("recover", "") == []


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_option_of_a_command(name: str) -> None:
    options = [one.opts[-1] for one in main.commands[name].params if one.opts[-1].startswith("-")]
    assert words(name, "-") == [*options, "--help"]


def test_the_long_name_of_an_option_is_offered_whatever_their_order() -> None:
    """click gives those of --help in any."""
    option = click.Option(["--long", "-l"])
    group = click.Group(commands={"one": click.Command("one", params=[option])})
    assert [word for word, _ in completion.offers(group, ["one", "--l"])] == ["--long"]


def test_an_option_that_takes_a_value_is_no_argument() -> None:
    assert words("--engine", "raw", "a", "q") == ["qcow2://"]
    assert words("--yes", "a", "b", "q") == []
    assert words("--wait", "") == []


def test_volumes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names that the device mapper has for them; parts and other maps are none."""
    maps = {
        "vg0-root": "LVM-" + "x" * 64,
        "vg0-my--data": "LVM-" + "y" * 64,
        "big--group-lv": "LVM-" + "z" * 64,
        "vg0-root-real": "LVM-" + "x" * 64 + "-real",
        "secret": "CRYPT-LUKS2-1-secret",
    }
    for number, (name, uuid) in enumerate(maps.items()):
        place = folder / f"dm-{number}/dm"
        place.mkdir(parents=True)
        (place / "name").write_text(f"{name}\n")
        (place / "uuid").write_text(f"{uuid}\n")
    monkeypatch.setattr(completion, "_SYSFS", folder)
    scheme = "lvm+snapshot://"
    assert words(scheme) == [f"{scheme}big-group/", f"{scheme}vg0/"]
    assert words(f"{scheme}vg0/") == [f"{scheme}vg0/my-data", f"{scheme}vg0/root"]
    assert words("a", f"{scheme}b") == [f"{scheme}big-group/"]
