# SPDX-License-Identifier: GPL-2.0-only
"""`--json`: for programs, one JSON object a line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from lab import MIB, Lab, Run
from small_disks import BARE_SIZE, DISK_SIZE, bare, disk

from bsync.errors import Status


def events(run: Run) -> list[dict[str, Any]]:
    """Every line of output; no line is anything else."""
    found = [json.loads(line) for line in run.out.splitlines()]
    assert all({"event", "schema", "run", "time"} <= set(event) for event in found)
    assert len({event["run"] for event in found}) <= 1
    return found


def names(run: Run) -> list[str]:
    return [event["event"] for event in events(run)]


def test_a_run_from_plan_to_end(lab: Lab) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    run = lab.bsync("--json", source, target)
    assert not run.err
    found = events(run)
    kinds = names(run)
    assert kinds[0] == "planned"
    assert kinds[-1] == "finished"
    assert set(kinds) <= {"planned", "step-started", "step-advanced", "step-ended", "finished"}

    plan = found[0]
    assert plan["source"]["name"] == str(source)
    assert plan["destroys"] == []
    steps = len(plan["steps"])
    started = [event for event in found if event["event"] == "step-started"]
    ended = [event for event in found if event["event"] == "step-ended"]
    assert [event["index"] for event in started] == list(range(steps))
    assert [event["index"] for event in ended] == list(range(steps))
    assert [event["title"] for event in started] == [step["title"] for step in plan["steps"]]
    assert found[-1]["files"] == sum(event["files"] for event in ended) >= 18
    assert found[-1]["transferred"] == sum(event["transferred"] for event in ended) > 0

    again = events(lab.bsync("--json", source, target))[-1]
    assert (again["files"], again["transferred"], again["deleted"]) == (0, 0, 0)


def test_a_plan(lab: Lab) -> None:
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    lab.make(target, None, "mke2fs", "-q", "-t", "ext4")
    run = lab.bsync("plan", "--json", source, target)
    assert names(run) == ["planned"]
    plan = events(run)[0]
    assert plan["destroys"]
    assert [step["do"] for step in plan["steps"]][:1] == ["WriteTable"]
    (again,) = events(lab.bsync("--dry-run", "--json", source, target))
    assert {**again, "run": "", "time": ""} == {**plan, "run": "", "time": ""}


@pytest.mark.parametrize("command", ["clone", "plan", "verify"])
def test_a_failure_is_an_event(lab: Lab, command: str) -> None:
    run = lab.bsync(command, "--json", lab.folder / "x", lab.image("target.img", MIB), status=4)
    (event,) = events(run)
    assert event["event"] == "failed"
    assert event["status"] == 4
    assert "No such file" in event["message"]
    assert not run.err


@pytest.mark.parametrize("command", ["inspect", "recover"])
def test_a_failure_of_other_commands_is_an_event(lab: Lab, command: str) -> None:
    if command == "recover":
        lab.runtime.write_text("in the way")
        run = lab.bsync("recover", "--json", status=4)
        lab.runtime.unlink()
    else:
        run = lab.bsync("inspect", "--json", lab.folder / "x", status=4)
    assert [event["event"] for event in events(run)] == ["failed"]


def test_what_is_refused_is_planned_and_then_failed(lab: Lab) -> None:
    source, target = bare(lab), bare(lab, name="target.img")
    run = lab.bsync("--json", source, target, status=3)
    assert names(run) == ["planned", "failed"]
    assert events(run)[-1]["hint"] == "--yes answers the question"


@pytest.mark.engine("files")
def test_a_failed_step(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.stand_in("rsync", "echo 'rsync: broken' >&2; exit 12", when="progress2")
    run = lab.bsync("--json", source, target, status=5)
    assert events(run)[-1]["status"] == 5
    assert "rsync" in events(run)[-1]["message"]


def test_an_interrupted_run(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    run = lab.faulty("after-step", 1, "TERM", "--json", source, target)
    assert run.status == 143
    last = events(run)[-1]
    assert (last["event"], last["status"], last["error"]) == ("failed", 143, "terminated")


def test_verification_lists_each_difference(lab: Lab) -> None:
    source, target = bare(lab), bare(lab, name="target.img")
    run = lab.bsync("verify", "--json", source, target, status=6)
    kinds = names(run)
    assert kinds[-1] == "failed"
    assert kinds.count("differed") >= 1
    assert events(run)[-1]["status"] == 6


def test_recover(lab: Lab) -> None:
    run = lab.bsync("recover", "--json")
    assert names(run) == ["finished"]


def test_inspect(lab: Lab) -> None:
    source = disk(lab)
    (side,) = events(lab.bsync("inspect", "--json", source))
    assert (side["table"], side["size"], side["incomplete"]) == ("dos", DISK_SIZE, False)
    assert side["boot_code"] is True
    assert side["gap"] == 5 * 512, "whole sectors"
    kinds = {part["number"]: part.get("content", {}).get("kind") for part in side["partitions"]}
    assert kinds == {1: "ext2", 2: None, 5: "ext4", 6: "swap"}
    parts = {part["number"]: (part["start"], part["size"]) for part in side["partitions"]}
    assert parts == {part.number: (part.start, part.size) for part in lab.partitions(source)}


def test_inspect_in_words(lab: Lab) -> None:
    source = disk(lab)
    shown = lab.bsync("inspect", source).out
    for words in ("dos table 0x5af37e57", "boot code", "Label", "part1", "part5", "swap"):
        assert words in shown
    (side,) = events(lab.bsync("inspect", "--json", lab.image("blank.img", MIB)))
    assert side["content"] == {"kind": "nothing"}


def test_names_that_are_not_utf_8(lab: Lab) -> None:
    source = bare(lab)
    odd = lab.folder / "od\udcffd.img"
    source.rename(odd)
    (side,) = events(lab.bsync("inspect", "--json", odd))
    assert side["name"] == str(odd)
    lab.bsync("inspect", odd)


# --- the contract -------------------------------------------------------------------------

PAGE = Path(__file__).parents[2] / "docs/json.md"


def documented() -> dict[str, set[str]]:
    """The fields of each event that the page tells of."""
    _, *parts = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    found = {}
    for part in parts:
        name, _, text = part.partition("\n")
        cells = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
        found[name] = {field for cell in cells for field in re.findall(r"`([a-z_]+)`", cell)}
    always = found.pop("In every line")
    return {name: fields | always for name, fields in found.items()}


def test_the_page_tells_of_what_is_written(lab: Lab) -> None:
    """Every event of the page is seen here, with its fields and no others."""
    source, target = disk(lab), lab.image("target.img", DISK_SIZE)
    runs = [
        lab.bsync("--json", "--engine", "files", source, target),
        lab.bsync("verify", "--json", source, bare(lab, name="other.img"), status=6),
        lab.bsync("inspect", "--json", source),
        lab.bsync("inspect", "--json", bare(lab, name="bare.img")),
    ]
    seen: dict[str, set[str]] = {}
    for run in runs:
        for event in events(run):
            seen.setdefault(event["event"], set()).update(event)
    assert seen == documented()


def test_every_error_is_in_the_page() -> None:
    (row,) = re.findall(r"^\| `error` \| (.*)", PAGE.read_text(), re.MULTILINE)
    assert set(re.findall(r"`([a-z-]+)`", row)) == {one.word for one in Status if one}


@pytest.mark.parametrize("words", [["a", "b", "c"], ["a", "b", "--none"], ["loop:x", "y"], ["a"]])
def test_a_wrong_command_line_is_an_event(lab: Lab, words: list[str]) -> None:
    run = lab.bsync("--json", *words, status=2)
    (event,) = events(run)
    assert (event["event"], event["status"], event["error"]) == ("failed", 2, "usage")
    assert event["hint"]
    assert not run.err


def test_a_summary(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    last = events(lab.bsync("--json", source, target))[-1]
    assert last["names"] == [str(source), str(target)]
    assert last["seconds"] > 0


def test_lines_that_cannot_be_written_are_a_failure(lab: Lab) -> None:
    """But the clone is made."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "bsync", "--json", source, target],
            env=lab.environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert run.returncode == 9
    assert "No space left" in run.stderr
    lab.bsync("verify", source, target)
