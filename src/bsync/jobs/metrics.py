# SPDX-License-Identifier: GPL-2.0-only
"""What became of each job, in the text format of Prometheus, for node_exporter's collector of text
files.  Format: Prometheus' exposition formats, version 0.0.4."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

from bsync.errors import Unavailable
from bsync.jobs.outcome import Outcome

_METRICS = {
    "bsync_last_run_timestamp_seconds": "When the job ended last.",
    "bsync_last_success_timestamp_seconds": "When it last ended with status 0.",
    "bsync_duration_seconds": "How long it took.",
    "bsync_transferred_bytes": "Bytes that were transferred.",
    "bsync_files": "Files that were transferred, where they are known.",
    "bsync_status": "Its exit status.",
}
_SAMPLE = re.compile(r'(\w+)\{job="([^"]*)"\} (\S+)')

Samples = dict[tuple[str, str], str]  # by metric and job


def write(path: str, outcomes: Iterable[Outcome], now: float) -> None:
    """Bring the file up to date, whole or not at all: jobs that were not run keep their values.

    Raises `Unavailable`.
    """
    try:
        samples = _read(path)
        for outcome in outcomes:
            samples |= _samples(outcome, now)
        _replace(path, _text(samples))
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from None


def _samples(outcome: Outcome, now: float) -> Samples:
    name = outcome.name
    found = {
        ("bsync_last_run_timestamp_seconds", name): f"{now:.0f}",
        ("bsync_duration_seconds", name): f"{outcome.seconds:.1f}",
        ("bsync_transferred_bytes", name): str(outcome.transferred),
        ("bsync_status", name): str(outcome.status),
    }
    if outcome.files is not None:
        found["bsync_files", name] = str(outcome.files)
    if not outcome.status:
        found["bsync_last_success_timestamp_seconds", name] = f"{now:.0f}"
    return found


def _read(path: str) -> Samples:
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return {}
    return {(metric, job): value for metric, job, value in _SAMPLE.findall(text)}


def _text(samples: Samples) -> str:
    lines = []
    for metric, meaning in _METRICS.items():
        own = sorted((job, value) for (name, job), value in samples.items() if name == metric)
        if own:
            lines += [f"# HELP {metric} {meaning}", f"# TYPE {metric} gauge"]
        lines += [f'{metric}{{job="{job}"}} {value}' for job, value in own]
    return "\n".join([*lines, ""])


def _replace(path: str, text: str) -> None:
    """A collector reads what has the right ending: the new file gets it at its end only."""
    descriptor, name = tempfile.mkstemp(prefix=".bsync-", dir=os.path.dirname(path) or ".")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
