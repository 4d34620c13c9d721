# SPDX-License-Identifier: GPL-2.0-only
"""The report in Markdown, from what was kept of each part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median

from benchlib.chart import Panel, draw
from benchlib.contenders import BSYNC, BSYNC_FILES, PLAIN_COPY, RSYNC_AS_BSYNC, RSYNC_PLAIN
from benchlib.results import Case, Entry, Results

MAIN, RESTED, FILES, GROWTH, ISCSI = "main", "rested", "files", "growth", "iscsi"

BEGIN = "<!-- benchmark: begin -->"
END = "<!-- benchmark: end -->"
TITLE = "# Benchmarks"
NOTHING = "-"
RATE_TARGET = 0.9  # Of the plain copy's rate.

TITLES = {
    MAIN: "Side by side",
    RESTED: "The same after a rest",
    FILES: "By files",
    GROWTH: "How the cost grows",
    ISCSI: "Over iSCSI, with an initiator in user space",
}
INTRODUCTIONS = {
    MAIN: """\
Every contender, from an image to another on the same disk.""",
    RESTED: """\
First clones once more, each after the machine did nothing for a while and gave its memory back to
its host: what an idle virtual machine does where free page reporting is on.  Who copies through
the page cache waits for the host; on a machine that keeps its memory the figures above hold.""",
    FILES: """\
What the files engine adds to the rsync that it runs.""",
    GROWTH: """\
Small files only, 4 KiB on average, on filesystems of different sizes, local as above.""",
    ISCSI: """\
The destination is a LUN that tgt serves from a file on the same disk, by direct I/O, over the
loopback network; it takes segments of 256 KiB (tgt admits 8 KiB unless told otherwise:
32 times as many messages for the same bytes).
There is no initiator in the kernel: QEMU's storage daemon logs in and exports the LUN over FUSE,
and a loop device makes it a block device.  rsync works on the LUN that is attached in just this
way, by bsync's own code, which itself copies past FUSE.  Attaching and letting go of it are part
of the time.""",
}


def write_report(path: Path, report: str) -> None:
    """Replace what is between the markers, or make the file."""
    block = f"{BEGIN}\n{report}{END}\n"
    text = path.read_text() if path.exists() else ""
    before, found, rest = text.partition(BEGIN)
    if found:
        after = rest.partition(END)[2].lstrip("\n")
        block = before + block + after
    else:
        block = f"{text.rstrip()}\n\n{block}" if text.strip() else f"{TITLE}\n\n{block}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block)


def render(parts: Mapping[str, Sequence[Results]], picture: str) -> str:
    """The whole report; `picture`: the name of the file with what `plot` draws."""
    sections: list[Sequence[str]] = []
    told = None
    for name in TITLES:
        if series := parts.get(name):
            sections.append((f"## {TITLES[name]}", "", INTRODUCTIONS[name]))
            machine = series[0].setting.machine
            sections.append([*(_machine(series[0]) if machine != told else ()), *_run(series)])
            told = machine
            sections += _growth(series, picture) if name == GROWTH else _comparison(series[0])
            sections.append([line for results in series for line in _incomplete(results)])
    return "".join(f"{chr(10).join(lines)}\n\n" for lines in sections if lines)


def plot(series: Sequence[Results]) -> str:
    """The growth of each case's cost, as SVG; empty where nothing was measured."""
    panels = []
    for case in Case:
        lines = {}
        for entry in series[0].setting.entries:
            found = [(float(r.setting.source["files"]), r.median(entry.name, case)) for r in series]
            if points := [(files, seconds) for files, seconds in found if seconds]:
                lines[entry.name] = points
        panels.append(Panel(case.capitalize(), lines))
    return draw(panels, "files", "seconds") if any(panel.lines for panel in panels) else ""


def _machine(results: Results) -> Iterator[str]:
    machine = results.setting.machine
    yield f"- Machine: {machine.cores} cores ({machine.processor}), {machine.memory_gib} GiB memory"
    yield f"- Kernel: {machine.kernel}; images on {machine.file_system}"
    versions = "; ".join(f"{name}: {version}" for name, version in machine.tools.items())
    yield f"- Versions: Python {machine.python}; {versions}"


def _run(series: Sequence[Results]) -> Iterator[str]:
    setting = series[0].setting
    memory = setting.memory or "as the run before left it"
    yield (
        f"- Rounds: {setting.rounds}; seed {setting.seed}; started {setting.started}; "
        f"memory: {memory}"
    )
    for results in series:
        source, changes = results.setting.source, results.setting.changes
        yield (
            f"- Source: {source['files']:,} files, {source['directories']:,} directories, "
            f"{source['hard_links']:,} more hard links, {source['symlinks']:,} symlinks, "
            f"{source['data_bytes'] / 1e9:.2f} GB of data, "
            f"{results.setting.used_bytes / 1e9:.2f} GB of blocks in use "
            f"of {source['image_bytes'] / 1e9:.2f} GB; changes: {changes.modified} files modified, "
            f"{changes.created} created, {changes.deleted} deleted"
        )


def _comparison(results: Results) -> Iterator[Sequence[str]]:
    yield [f"- {line}" for line in _summary(results)]
    for case in results.setting.cases:
        yield list(_table(results, case))
    yield [f"- {entry.name}: {entry.note}" for entry in results.setting.entries]


def _summary(results: Results) -> Iterator[str]:
    for case in results.setting.cases:
        if not (ours := results.median(BSYNC, case)):
            continue
        if rsync := results.median(RSYNC_PLAIN, case):
            yield f"{case}: {rsync / ours:.1f} times as fast as {RSYNC_PLAIN}"
        best = results.best_other(case)
        if best and best != RSYNC_PLAIN and (seconds := results.median(best, case)):
            yield f"{case}: {seconds / ours:.1f} times as fast as the best other, {best}"
    ours, plain = results.median(BSYNC, Case.FIRST), results.median(PLAIN_COPY, Case.FIRST)
    if ours and plain:
        yield (
            f"{Case.FIRST}: {plain / ours:.0%} of the rate of the {PLAIN_COPY} "
            f"(target: at least {RATE_TARGET:.0%})"
        )
    for case in results.setting.cases:
        files, rsync = results.median(BSYNC_FILES, case), results.median(RSYNC_AS_BSYNC, case)
        if files and rsync:
            yield f"{case}: {BSYNC_FILES} takes {files / rsync:.2f} times its rsync's time"


def _table(results: Results, case: Case) -> Iterator[str]:
    names = [entry.name for entry in results.setting.entries]
    rsync = RSYNC_PLAIN if RSYNC_PLAIN in names else RSYNC_AS_BSYNC
    best, references = results.best_other(case), [rsync]
    titles = [f"to {rsync}"]
    if best is not None and best != rsync:
        references.append(best)
        titles.append(f"to the best other, {best}")
    if results.median(PLAIN_COPY, case):
        references.append(PLAIN_COPY)
        titles.append(f"to the {PLAIN_COPY}")
    with_rate = case is Case.FIRST
    rate = ["GB/s"] if with_rate else []
    yield f"| {case.capitalize()} | " + " | ".join(["seconds", *rate, *titles]) + " |"
    yield "|---" + "|---:" * (1 + len(rate) + len(titles)) + "|"
    for entry in results.setting.entries:
        if case is Case.FIRST or not entry.copies_all:
            cells = _cells(results, entry, case, references, with_rate=with_rate)
            yield f"| {entry.name} | " + " | ".join(cells) + " |"


def _cells(
    results: Results, entry: Entry, case: Case, references: Sequence[str], *, with_rate: bool
) -> Iterator[str]:
    seconds = results.median(entry.name, case)
    if not seconds:
        yield _absence(results, entry.name, case)
        yield from [NOTHING] * (len(references) + with_rate)
        return
    yield _times(results.seconds(entry.name, case))
    if with_rate:
        yield f"{results.setting.used_bytes / seconds / 1e9:.2f}"
    for reference in references:
        other = results.median(reference, case)
        yield f"{seconds / other:.2f}" if other else NOTHING


def _absence(results: Results, name: str, case: Case) -> str:
    if name in results.setting.missing:
        return "missing"
    if name in results.setting.skipped:
        return "not run"
    return "failed" if results.failed(name, case) else NOTHING


def _times(seconds: Sequence[float]) -> str:
    spread = f" ({min(seconds):.2f} to {max(seconds):.2f})" if len(seconds) > 1 else ""
    return f"{median(seconds):.2f}{spread}"


def _growth(series: Sequence[Results], picture: str) -> Iterator[Sequence[str]]:
    names = [entry.name for entry in series[0].setting.entries]
    yield [f"![{TITLES[GROWTH]}]({picture})"]
    for case in series[0].setting.cases:
        lines = [f"| {case.capitalize()} | " + " | ".join(f"{n} (s)" for n in names) + " | ratio |"]
        lines.append("|---:" * (len(names) + 2) + "|")
        for results in series:
            times = [results.median(name, case) for name in names]
            cells = [
                f"{each:.2f}" if each else _absence(results, name, case)
                for each, name in zip(times, names, strict=True)
            ]
            ours, rsync = results.median(BSYNC, case), results.median(RSYNC_PLAIN, case)
            ratio = f"{ours / rsync:.3f}" if ours and rsync else NOTHING
            files = f"{results.setting.source['files']:,} files"
            lines.append(f"| {files} | " + " | ".join([*cells, ratio]) + " |")
        yield lines


def _incomplete(results: Results) -> Iterator[str]:
    for name, programs in results.setting.missing.items():
        yield f"- missing on this machine: {name} (no {', '.join(programs)})"
    if results.setting.skipped:
        yield f"- left out on request: {', '.join(results.setting.skipped)}"
    for failure in results.failures:
        lines = " / ".join(failure.reason.splitlines())
        yield f"- FAILED: {failure.contender}, {failure.case}, round {failure.round}: {lines}"
