"""The report in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from benchlib.contenders import BSYNC, RSYNC_AS_BSYNC, RSYNC_PLAIN, Contender
from benchlib.results import Case, Results

BEGIN = "<!-- benchmark: begin -->"
END = "<!-- benchmark: end -->"
TITLE = "# Benchmarks"
NOTHING = "-"
FIRST_CLONE_TARGET = 1.05
UNCHANGED_TARGET = 1.0

METHOD = """\
Each round runs all contenders one after the other, and each of them in three cases: the first
clone into an empty image; again, with nothing changed; again, from a copy of the source with
0.1 % of its files changed (not those that copy everything every time).
The source is one ext4 image, the destination an image of the same
size. All contenders but bsync, which is given the image files, work on loop devices with direct
I/O. Before each run everything is written and all caches are dropped. A run's time includes
attaching loop devices, mkfs and mounts where needed, and ends when the destination's backing
file is on the disk. The first round's clones are checked with e2fsck and compared with their
source. The source has a few sparse files, whose holes rsync writes out unless told `-S`. Times
are medians in seconds; ratios are to `rsync -aHAX`, so less is faster."""


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


def render(results: Results, contenders: Sequence[Contender]) -> str:
    """The whole report: method, circumstances, table and bsync's overhead."""
    sections = (
        METHOD.splitlines(),
        _circumstances(results),
        _table(results, contenders),
        _overhead(results),
        (f"- {contender.name}: {contender.note}" for contender in contenders),
        _incomplete(results),
    )
    return "".join(f"{chr(10).join(lines)}\n\n" for each in sections if (lines := list(each)))


def _circumstances(results: Results) -> Iterator[str]:
    setting, machine, source = results.setting, results.setting.machine, results.setting.source
    changes = setting.changes
    yield f"- Machine: {machine.cores} cores ({machine.processor}), {machine.memory_gib} GiB memory"
    yield f"- Kernel: {machine.kernel}; images on {machine.file_system}"
    yield (
        f"- Source: {source['files']:,} files, {source['directories']:,} directories, "
        f"{source['hard_links']:,} more hard links, {source['symlinks']:,} symlinks, "
        f"{source['data_bytes'] / 1e9:.2f} GB of data, "
        f"image of {source['image_bytes'] / 1e9:.2f} GB"
    )
    yield (
        f"- Changes: {changes.modified} files modified, {changes.created} created, "
        f"{changes.deleted} deleted"
    )
    yield f"- Rounds: {setting.rounds}; seed {setting.seed}; started {setting.started}"
    versions = "; ".join(f"{name}: {version}" for name, version in machine.tools.items())
    yield f"- Versions: Python {machine.python}; {versions}"


def _table(results: Results, contenders: Sequence[Contender]) -> Iterator[str]:
    yield "| Contender | " + " | ".join(f"{case.capitalize()} (s) | ratio" for case in Case) + " |"
    yield "|---" + "|---:" * (2 * len(Case)) + "|"
    for contender in contenders:
        yield f"| {contender.name} | " + " | ".join(_cells(results, contender)) + " |"


def _cells(results: Results, contender: Contender) -> Iterator[str]:
    for case in Case:
        seconds, plain = results.seconds(contender.name, case), results.median(RSYNC_PLAIN, case)
        if contender.name in results.setting.missing:
            yield from ("missing", NOTHING)
        elif contender.name in results.setting.skipped:
            yield from ("not run", NOTHING)
        elif results.failed(contender.name, case):
            yield from ("failed", NOTHING)
        elif not seconds:
            yield from (NOTHING, NOTHING)
        else:
            yield _times(seconds)
            yield f"{median(seconds) / plain:.2f}" if plain else NOTHING


def _times(seconds: Sequence[float]) -> str:
    spread = f" ({min(seconds):.2f} to {max(seconds):.2f})" if len(seconds) > 1 else ""
    return f"{median(seconds):.2f}{spread}"


def _overhead(results: Results) -> Iterator[str]:
    yield f"bsync's own overhead, against {RSYNC_AS_BSYNC}:"
    yield ""
    first, unchanged = _both(results, Case.FIRST), _both(results, Case.UNCHANGED)
    if first is None or unchanged is None:
        yield "- not measured: one of the two is missing, failed or was not run"
        return
    ratio, difference = first[0] / first[1], unchanged[0] - unchanged[1]
    yield f"- first clone: ratio {ratio:.3f} (target: at most {FIRST_CLONE_TARGET})"
    yield f"- nothing changed: {difference:+.2f} s (target: at most {UNCHANGED_TARGET} s)"
    for case in (Case.FIRST, Case.UNCHANGED):
        alone = results.program_median(RSYNC_AS_BSYNC, case)
        yield f"- {case}: that rsync process alone took {alone:.2f} s"


def _both(results: Results, case: Case) -> tuple[float, float] | None:
    if results.failed(BSYNC, case) or results.failed(RSYNC_AS_BSYNC, case):
        return None
    ours, rsync = results.median(BSYNC, case), results.median(RSYNC_AS_BSYNC, case)
    return None if ours is None or rsync is None else (ours, rsync)


def _incomplete(results: Results) -> Iterator[str]:
    for name, programs in results.setting.missing.items():
        yield f"- missing on this machine: {name} (no {', '.join(programs)})"
    for name in results.setting.skipped:
        yield f"- left out on request: {name}"
    for failure in results.failures:
        lines = " / ".join(failure.reason.splitlines())
        yield f"- FAILED: {failure.contender}, {failure.case}, round {failure.round}: {lines}"
