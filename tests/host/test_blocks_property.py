# SPDX-License-Identifier: GPL-2.0-only
"""Whatever is done to a source, or to its mirror: a synchronisation makes them the same.

A hypothesis state machine mounts, changes, unmounts and synchronises.  BSYNC_LONG_RUN=EXAMPLES
makes it that many times as thorough.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from by_blocks import assert_clean, assert_same_blocks, copied
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from lab import MIB, call, wait_until
from random_tree import RandomTree
from trees import facts

from bsync.engines.blocks import changes, owned, pair
from bsync.plan.steps import Way

SIZE = 40 * MIB
INODES = "2048"  # four times as many as names: all of their tables are compared each time
EXAMPLES = 4 * int(os.environ.get("BSYNC_LONG_RUN", "1"))
STEPS = 24

VARIANTS: dict[str, tuple[str, ...]] = {
    "ext4": ("-t", "ext4"),
    "ext4-1k": ("-t", "ext4", "-b", "1024", "-O", "inline_data"),
    "ext4-2k-large-xattrs": ("-t", "ext4", "-b", "2048", "-O", "ea_inode,orphan_file"),
    "ext4-128-byte-inodes": ("-t", "ext4", "-I", "128", "-O", "^metadata_csum,uninit_bg"),
    "ext3": ("-t", "ext3"),
    "ext2-1k": ("-t", "ext2", "-b", "1024"),
}


@contextlib.contextmanager
def mounted(image: Path, folder: Path, options: str = "rw") -> Iterator[Path]:
    folder.mkdir(exist_ok=True)
    call("mount", "-o", f"loop,{options}", image, folder)
    try:
        yield folder
    finally:
        call("umount", folder)
        wait_until(lambda: not attached(image), lambda: f"{image} stays attached")


def attached(image: Path) -> bool:
    """Whether a loop device stands on it: the kernel lets go of it in its own time."""
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if path.read_text().rstrip("\n") == str(image):
                return True
    return False


class Mirror(RuleBasedStateMachine):
    """A source, its mirror, and what happens to them."""

    variant: ClassVar[tuple[str, ...]]
    operations: ClassVar[int]

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="bsync-property-"))
        self.source, self.target = self.folder / "source.img", self.folder / "target.img"
        for image in (self.source, self.target):
            with image.open("wb") as file:
                file.truncate(SIZE)

    @initialize(seed=st.integers(0, 1 << 30))
    def begin(self, seed: int) -> None:
        call("mke2fs", "-q", "-N", INODES, *self.variant, self.source)
        self._change(self.source, seed, 40)
        copied(self.source, self.target, Way.FRESH)
        self._compare()

    @rule(seed=st.integers(0, 1 << 30), count=st.integers(1, 80))
    def change_source(self, seed: int, count: int) -> None:
        self._change(self.source, seed, count)

    @rule(seed=st.integers(0, 1 << 30), count=st.integers(1, 20))
    def change_mirror(self, seed: int, count: int) -> None:
        """Somebody booted it."""
        self._change(self.target, seed, count)

    @rule()
    def synchronise(self) -> None:
        copied(self.source, self.target)
        self._compare()
        again = copied(self.source, self.target)
        assert again.idle, "a second run finds nothing"

    def _change(self, image: Path, seed: int, count: int) -> None:
        with mounted(image, self.folder / "mnt") as root:
            tree = RandomTree(root, seed)
            for _ in range(count):
                tree.change()
        type(self).operations += count

    def _compare(self) -> None:
        assert_same_blocks(self.source, self.target)
        assert_clean(self.target)

    def _compare_trees(self) -> None:
        with (
            mounted(self.source, self.folder / "a", "ro") as here,
            mounted(self.target, self.folder / "b", "ro") as there,
        ):
            one, other = facts(here), facts(there)
        names = {name for name in {*one, *other} if one.get(name) != other.get(name)}
        assert not names, {name: (one.get(name), other.get(name)) for name in names}

    def teardown(self) -> None:
        try:
            if (self.folder / "mnt").exists():  # it did begin
                self.synchronise()
                self._compare_trees()
        finally:
            shutil.rmtree(self.folder)


@pytest.fixture(params=VARIANTS)
def name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Most variants are looked at in small parts, as large filesystems are."""
    if request.param not in ("ext4", "ext2-1k"):
        monkeypatch.setattr(pair, "AT_ONCE", 16 << 10)
        monkeypatch.setattr(changes, "AT_ONCE", 16 << 10)
        monkeypatch.setattr(changes, "_TABLES", 64 << 10)
        monkeypatch.setattr(owned, "_WALK", 16)
    return str(request.param)


def test_a_synchronised_mirror_is_the_source(name: str) -> None:
    machine = type("Machine", (Mirror,), {"variant": VARIANTS[name], "operations": 0})
    chosen = settings(
        max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=chosen)
    print(f"{name}: {machine.operations} operations")  # type: ignore[attr-defined]
    assert machine.operations > 500 * EXAMPLES // 4  # type: ignore[attr-defined]
