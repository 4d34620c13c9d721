# SPDX-License-Identifier: GPL-2.0-only
"""A clone by blocks, cut off anywhere: nothing of the run remains, nothing can be taken for the
source, and the next run completes it unasked."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aftermath import LABEL, Case, blank, changed_mirror, inspect
from by_blocks import IDLE
from lab import MIB, Lab, Part, Run, call, digest
from small_disks import BARE_SIZE, bare, copied, disk, filesystems, folder
from trees import assert_same_tree

pytestmark = pytest.mark.engine("blocks")

KILLED = -9
NEVER = 400  # more points than any of these runs has
STATUS = {"INT": 130, "TERM": 143}

Check = Callable[[Lab, Case, Path], None]


def larger(lab: Lab, source: Path) -> Case:
    """A blank destination with twice the room, to which the clone grows."""
    return Case(source, lab.image("before.img", 2 * source.stat().st_size))


def whole(lab: Lab, case: Case) -> Case:
    """A destination that holds the mirror already."""
    lab.bsync(case.source, case.before)
    return case


# --- what must hold -----------------------------------------------------------------------


def assert_no_mirror_yet(lab: Lab, case: Case, target: Path) -> None:
    """Every filesystem either is the source's, or is neither mounted nor found by its name."""
    for here, there in zip(filesystems(lab, case.source), filesystems(lab, target), strict=False):
        with lab.attached(case.source, here, read_only=True) as device:
            name = blkid(device)["UUID"]
        if there and part_of(target, there) == part_of(case.before, there):
            continue  # nothing has happened to it yet; the disk itself is disarmed
        with lab.attached(target, there) as device:
            if blkid(device).get("UUID") != name:
                refuses_to_be_mounted(lab, device)
                continue
            call("e2fsck", "-f", "-n", device)
        assert_same_tree(lab, case.source, target, here, there)


def part_of(image: Path, part: Part) -> bytes:
    with image.open("rb") as file:
        file.seek(part.start)
        return file.read(part.size)


def assert_named_incomplete(lab: Lab, case: Case, target: Path) -> None:
    """While it grows it is a filesystem for its tools; its label says what it is."""
    with lab.attached(case.source, read_only=True) as here, lab.attached(target) as there:
        name, found = blkid(here)["UUID"], blkid(there)
        if found.get("LABEL") == LABEL:
            return
        if found.get("UUID") != name:
            refuses_to_be_mounted(lab, there)
            return
    lab.assert_clean(target)
    assert_same_tree(lab, case.source, target)


def blkid(device: str) -> dict[str, str]:
    lines = call("blkid", "-p", "-o", "export", device, ok=(0, 2)).splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def refuses_to_be_mounted(lab: Lab, device: str) -> None:
    mount_point = lab.folder / "refuses"
    mount_point.mkdir(exist_ok=True)
    for kind in ("ext4", "ext2"):
        call("mount", "-t", kind, "-o", "ro", device, mount_point, ok=(32,))


def completed(lab: Lab, case: Case, target: Path) -> None:
    """The next run makes it a mirror without a question, the one after finds nothing to do."""
    lab.bsync(case.source, target)
    lab.bsync("verify", case.source, target)
    for here, there in zip(filesystems(lab, case.source), filesystems(lab, target), strict=True):
        lab.assert_clean(target, there)
        assert_same_tree(lab, case.source, target, here, there)
    assert IDLE in lab.bsync(case.source, target).out


def sweep(
    lab: Lab, case: Case, point: str, counts: Iterable[int] = range(1, NEVER),
    check: Check = assert_no_mirror_yet,
) -> int:  # fmt: skip
    """Kill a run the first, second, … time it comes to `point`, until it comes to its end.

    Returns how many were killed.
    """
    kept = digest(case.source), case.source.stat().st_mtime_ns
    killed = 0
    for count in counts:
        target = copied(case.before, "target.img")
        run = lab.faulty(point, count, "KILL", case.source, target)
        if run.status != 0:
            assert run.status == KILLED, (point, count, run)
            lab.bsync("recover")
            lab.assert_all_goes()
            try:
                if digest(target) != digest(case.before):
                    check(lab, case, target)
                completed(lab, case, target)
            except AssertionError as error:
                raise AssertionError(f"killed at {point} {count}: {error}\n{run.out}") from error
            killed += 1
        target.unlink()
        assert kept == (digest(case.source), case.source.stat().st_mtime_ns)
        if run.status == 0:
            break
    return killed


# --- killed -------------------------------------------------------------------------------


def test_killed_after_every_line_of_the_ledger_of_a_first_clone(lab: Lab) -> None:
    assert sweep(lab, blank(lab, bare(lab)), "after-line") >= 3


@pytest.mark.parametrize("kind", ["ext2", "ext4"])
def test_killed_before_many_writes_of_a_first_clone(lab: Lab, kind: str) -> None:
    case = blank(lab, bare(lab, kind, files=60))
    assert sweep(lab, case, "blocks:pwritev", (1, 2, 3, 5, 8, 13)) >= 3


@pytest.mark.parametrize("kind", ["ext2", "ext4"])
def test_killed_before_every_other_write_of_a_synchronisation(lab: Lab, kind: str) -> None:
    case = changed_mirror(lab, bare(lab, kind))
    assert sweep(lab, case, "blocks:pwritev", range(1, NEVER, 2)) >= 3


def test_killed_before_many_writes_to_an_unfinished_clone(lab: Lab) -> None:
    """The second run is cut off as well."""
    case = blank(lab, bare(lab, files=60))
    run = lab.faulty("blocks:pwritev", 4, "KILL", case.source, case.before)
    assert run.status == KILLED
    assert sweep(lab, case, "blocks:pwritev", (1, 2, 4)) >= 1


@pytest.mark.parametrize("point", ["before-superblock", "after-superblock"])
@pytest.mark.parametrize("begin", [blank, changed_mirror])
def test_killed_around_every_superblock(
    lab: Lab, point: str, begin: Callable[[Lab, Path], Case]
) -> None:
    assert sweep(lab, begin(lab, bare(lab)), point) == 2


def test_killed_before_every_program(lab: Lab) -> None:
    assert sweep(lab, blank(lab, bare(lab)), "before-child") >= 2


def test_killed_between_the_steps_of_a_disk(lab: Lab) -> None:
    assert sweep(lab, blank(lab, disk(lab)), "after-step") >= 8


def test_killed_between_the_steps_of_a_synchronised_disk(lab: Lab) -> None:
    assert sweep(lab, changed_mirror(lab, disk(lab)), "after-step") >= 7


# --- killed while it grows ----------------------------------------------------------------


@pytest.mark.parametrize("point", ["before-superblock", "after-superblock", "before-child"])
def test_killed_around_the_growing(lab: Lab, point: str) -> None:
    case = larger(lab, bare(lab))
    assert sweep(lab, case, point, check=assert_named_incomplete) >= 3


def test_killed_at_many_moments_of_resize2fs(lab: Lab) -> None:
    case = larger(lab, bare(lab))
    moments = (0, 1, 3, 6, 10, 20)  # half milliseconds
    assert sweep(lab, case, "soon:resize2fs", moments, assert_named_incomplete) == len(moments)


def test_killed_while_a_grown_mirror_is_synchronised(lab: Lab) -> None:
    case = whole(lab, larger(lab, bare(lab)))
    with lab.mounted(case.source) as tree:
        (tree / "file-001").write_text("changed")
    for point in ("after-superblock", "before-child"):
        assert sweep(lab, case, point, check=assert_named_incomplete) >= 1


# --- interrupted --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "point", "count"),
    [
        ("INT", "before-superblock", 1),
        ("TERM", "after-superblock", 1),
        ("INT", "blocks:pwritev", 1),
        ("TERM", "blocks:pwritev", 5),
        ("INT", "before-superblock", 2),
        ("TERM", "after-superblock", 2),
    ],
)
def test_interrupted(lab: Lab, name: str, point: str, count: int) -> None:
    source = bare(lab, files=60)
    for case in (Case(source, lab.image("blank.img", BARE_SIZE)), changed_mirror(lab, source)):
        before = digest(source)
        target = copied(case.before, "target.img")
        run = lab.faulty(point, count, name, source, target)
        assert run.status == STATUS[name], run
        first, hint = run.err.splitlines()
        assert first.endswith("; everything released"), run.err
        assert "the same command completes it" in hint
        assert not lab.left(), lab.left()
        if digest(target) != digest(case.before):
            assert_no_mirror_yet(lab, case, target)
        assert digest(source) == before
        completed(lab, case, target)
        target.unlink()


def test_interrupted_while_it_grows(lab: Lab) -> None:
    case = larger(lab, bare(lab))
    for name in STATUS:
        target = copied(case.before, f"{name}.img")
        run = lab.faulty("started:resize2fs", 1, name, case.source, target)
        assert run.status == STATUS[name], run
        assert not lab.left(), lab.left()
        assert_named_incomplete(lab, case, target)
        completed(lab, case, target)


# --- what fails ---------------------------------------------------------------------------


def assert_failed(run: Run, says: str, status: int = 5) -> None:
    assert run.status == status, run
    assert says in run.err
    assert run.err.startswith("bsync: ")
    assert len(run.err.splitlines()) <= 2, run.err


@contextmanager
def small_room(lab: Lab, kind: str, size: int) -> Iterator[Path]:
    """A folder on a filesystem of its own, with little room."""
    if kind == "ext4":
        image = lab.image("room.img", size)
        call("mke2fs", "-q", "-t", "ext4", "-m", "0", image)
        with lab.mounted(image) as tree:
            yield tree
        return
    tree = lab.folder / "room"
    tree.mkdir()
    call("mount", "-t", "tmpfs", "-o", f"size={size}", "none", tree)
    try:
        yield tree
    finally:
        call("umount", tree)


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_a_destination_without_room(lab: Lab, kind: str) -> None:
    """A sparse image is as large as need be; what it stands on is not."""
    source, other = lab.image("source.img", 24 * MIB), bare(lab, name="other.img")
    tree = folder(lab, "tree", files=60, size=500_000)
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4", "-d", str(tree))
    kept, case = digest(source), Case(source, other)
    with small_room(lab, kind, 12 * MIB) as room:
        target = room / "target.img"
        with target.open("xb") as file:
            file.truncate(24 * MIB)
        assert_failed(lab.bsync(source, target, status=5), "is full: the image takes")
        assert_no_mirror_yet(lab, case, target)
        moved = copied_elsewhere(lab, target)
    assert digest(source) == kept
    completed(lab, case, moved)


def copied_elsewhere(lab: Lab, image: Path) -> Path:
    path = lab.folder / "moved.img"
    call("cp", "--sparse=always", image, path)
    return path


def test_a_source_that_ends_too_early(lab: Lab) -> None:
    source, target = bare(lab, files=60), lab.image("target.img", BARE_SIZE)
    spare = copied(source, "spare.img")
    with lab.held(source, target) as go_on:
        os.truncate(source, 2 * MIB)
        run = go_on()
    assert_failed(run, "it ends there")
    assert_no_mirror_yet(lab, Case(spare, target), target)
    completed(lab, Case(spare, target), target)


def test_a_source_that_cannot_be_read_is_known_before_anything_is_written(lab: Lab) -> None:
    """A map that leads beyond the end of the filesystem."""
    source, target = bare(lab), lab.image("target.img", BARE_SIZE)
    lab.bsync(source, target)
    lab.make(source, None, "debugfs", "-w", "-R", "set_inode_field <12> block[5] 0x7fffffff")
    lab.make(source, None, "debugfs", "-w", "-R", "set_inode_field <12> ctime 20300101000000")
    before = digest(source), digest(target)
    assert_failed(lab.bsync(source, target, status=3), "damaged", status=3)
    assert (digest(source), digest(target)) == before


def test_a_growing_that_fails(lab: Lab) -> None:
    case = larger(lab, bare(lab))
    stand_in = lab.stand_in("resize2fs", "echo 'resize2fs: cannot do that' >&2; exit 1", "/dev/")
    assert_failed(lab.bsync(case.source, case.before, status=5), "cannot do that")
    stand_in.unlink()
    assert inspect(lab, case.before)["content"]["label"] == LABEL
    assert_named_incomplete(lab, case, case.before)
    lab.bsync("verify", case.source, case.before, status=6)
    completed(lab, case, case.before)


def test_a_wiping_that_fails(lab: Lab) -> None:
    case = blank(lab, bare(lab))
    stand_in = lab.stand_in("wipefs", "echo 'wipefs: cannot do that' >&2; exit 1", "--all")
    assert_failed(lab.bsync(case.source, case.before, status=5), "cannot do that")
    stand_in.unlink()
    assert_no_mirror_yet(lab, case, case.before)
    completed(lab, case, case.before)
