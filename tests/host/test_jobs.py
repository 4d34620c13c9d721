# SPDX-License-Identifier: GPL-2.0-only
"""Jobs of a file, run by their names."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from lab import MIB, PATIENCE, Lab, wait_until
from small_disks import bare


def jobs_file(lab: Lab, text: str) -> Path:
    file = lab.folder / "jobs.toml"
    file.write_text(text)
    return file


def pair(lab: Lab, name: str, more: str = "") -> str:
    """A job that clones an image of its own to another."""
    source, target = bare(lab, name=f"{name}.img"), lab.image(f"{name}-clone.img", 64 * MIB)
    return f'[job.{name}]\nsource = "{source}"\ndestination = "{target}"\n{more}\n'


def test_jobs_are_run_and_told_of(lab: Lab) -> None:
    said = lab.folder / "said"
    hooks = "".join(
        f"{when} = 'echo {when} $BSYNC_JOB $BSYNC_STATUS >>{said}'\n"
        for when in ("before", "after", "on-failure")
    )
    file = jobs_file(
        lab,
        "[defaults]\nengine = 'blocks'\n"
        + pair(lab, "one", f"groups = ['nightly']\n{hooks}")
        + pair(lab, "two", "groups = ['nightly']\nwait = 5\ncreate = '1M'")
        + pair(lab, "three"),
    )
    metrics = lab.folder / "bsync.prom"
    words = ("run", "--file", file, "--parallel", "2", "--metrics", metrics)
    run = lab.bsync(*words, "nightly", status=2)
    lines = [line.split() for line in run.out.splitlines()]
    assert ["one", "done"] in [line[:2] for line in lines]
    assert ["two", "failed", "(2)"] in [line[:3] for line in lines]
    assert not [line for line in lines if line[:1] == ["three"]]
    assert said.read_text() == "before one 0\nafter one 0\n"
    text = metrics.read_text()
    assert 'bsync_status{job="one"} 0' in text
    assert 'bsync_status{job="two"} 2' in text
    assert 'bsync_last_success_timestamp_seconds{job="two"}' not in text
    lab.bsync("verify", lab.folder / "one.img", lab.folder / "one-clone.img")
    lab.bsync(*words, "three")
    assert 'bsync_status{job="one"} 0' in metrics.read_text()
    assert 'bsync_status{job="three"} 0' in metrics.read_text()


def test_a_job_whose_preparation_fails_is_not_run(lab: Lab) -> None:
    said = lab.folder / "said"
    more = f"before = 'echo no >&2; exit 3'\non-failure = 'echo $BSYNC_STATUS >{said}'"
    file = jobs_file(lab, pair(lab, "one", more))
    run = lab.bsync("run", "--file", file, "--all", status=4)
    assert "one: failed: before: env failed with status 3: no" in run.out
    assert said.read_text() == "4\n"
    assert not (lab.folder / "one-clone.img").read_bytes().strip(b"\0")


def test_a_signal_ends_the_jobs_first(lab: Lab) -> None:
    begun = lab.folder / "begun"
    lab.stand_in("rsync", f"touch {begun}; sleep 30", when="progress2")
    file = jobs_file(lab, pair(lab, "one", "engine = 'files'") + pair(lab, "two"))
    child = lab.start("run", "--file", file, "--all")
    wait_until(begun.exists, lambda: "the job does not begin")
    assert list(lab.runtime.glob("*/ledger")), "a job has our environment"
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=PATIENCE)
    assert child.returncode == 143, err
    lab.assert_nothing_left()
    assert not (lab.folder / "two-clone.img").read_bytes().strip(b"\0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[job.a]\nsorce = 'x'\n", "jobs.toml:1: job a: source is missing"),
        (
            "\n[job.a]\nsource = 'x'\ndestination = 'y'\nchecksums = true\n",
            "did you mean checksum?",
        ),
        ("[job.a]\nsource = 'x'\ndestination = 'y'\nchecksum = 3\n", "checksum cannot be 3"),
        ("[job.a]\nsource = 'x'\ndestination = 'foo://y'\n", "unknown scheme foo://"),
        ("[job.a]\nsource = 'x'\ndestination = 'y'\nengine = 'best'\n", "'best' is not one of"),
        ("[jobs.a]\nsource = 'x'\n", "there is no 'jobs' (did you mean job?)"),
        ("[job.a]\nsource='x'\ndestination='y'\n[defaults]\nwiat=1\n", "jobs.toml:4: defaults: "),
        ("[job.a\n", "is no TOML"),
        ("", "has no jobs"),
    ],
)
def test_a_mistake_is_told_with_its_place(lab: Lab, text: str, said: str) -> None:
    file = jobs_file(lab, text)
    assert said in lab.bsync("jobs", "check", "--file", file, status=2).err
    assert said in lab.bsync("run", "--all", "--file", file, status=2).err


def test_what_there_is_is_shown(lab: Lab) -> None:
    file = jobs_file(lab, "[job.a]\nsource = 'x'\ndestination = 'y'\ngroups = ['g']\n")
    assert lab.bsync("jobs", "--file", file).out == "a (g): x to y\n"
    assert "1 job, no mistakes" in lab.bsync("jobs", "check", "--file", file).out
    assert "there is no job or group b" in lab.bsync("run", "b", "--file", file, status=2).err
    assert "--all runs them all" in lab.bsync("run", "--file", file, status=2).err
    missing = lab.bsync("jobs", "--file", lab.folder / "none.toml", status=4).err
    assert "--file names another" in missing
