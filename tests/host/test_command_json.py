# SPDX-License-Identifier: GPL-2.0-only
"""`--json`: for programs, one JSON object a line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from lab import MIB, Lab, Run
from small_disks import BARE_SIZE, DISK_SIZE, bare, disk


def events(run: Run) -> list[dict[str, Any]]:
    """Every line of output; no line is anything else."""
    found = [json.loads(line) for line in run.out.splitlines()]
    assert all(isinstance(event, dict) for event in found)
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
    assert run.out == lab.bsync("--dry-run", "--json", source, target).out


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
    assert events(run)[-1] == {"event": "failed", "status": 143}


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
    for words in ("dos table 0x5af37e57", "boot code", '"part1"', '"part5"', "swap", "extended"):
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
