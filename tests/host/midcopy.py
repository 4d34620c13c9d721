# SPDX-License-Identifier: GPL-2.0-only
"""Copies that are struck in their middle, and the proof that it was there.

The proof is in the contents: every block of the source's files is like no other, so that those
which have arrived in an image can be counted, wherever they stand.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import which

from lab import MIB, PATIENCE, Lab, Run, wait_until

BLOCK = 4096  # bytes; the filesystem's, and what is counted
BSYNC = ("-m", "bsync")
_FILE = 2 * MIB
_KEY = 16  # bytes at its beginning by which a block is known
_RATE = "64M"  # bytes a second: or a fast machine is through before anybody looks
_MIDDLE = (0.15, 0.85)  # of the blocks: anything between is the middle of a copy


@dataclass(frozen=True)
class Material:
    """A bare filesystem full of blocks that are known."""

    image: Path
    blocks: frozenset[bytes]

    @property
    def size(self) -> int:
        return self.image.stat().st_size

    def arrived(self, image: Path, every: int = 1) -> float:
        """Which part of the blocks is in the image, from 0 to 1; looking at one of `every`."""
        with image.open("rb") as file:
            places = range(0, self.size, BLOCK * every)
            found = {os.pread(file.fileno(), _KEY, at) for at in places}
        return every * len(self.blocks & found) / len(self.blocks)


def material(lab: Lab, data: int = 96 * MIB, kind: str = "ext4") -> Material:
    """A filesystem with files of `data` bytes, that nothing can compress."""
    top = lab.folder / "material"
    top.mkdir()
    blocks = set()
    for number in range(data // _FILE):
        content = os.urandom(_FILE)
        (top / f"file-{number:03}").write_bytes(content)
        blocks |= {content[at : at + _KEY] for at in range(0, _FILE, BLOCK)}
    image = lab.image("source.img", data + data // 2)
    make = ("mke2fs", "-q", "-t", kind, "-b", str(BLOCK), "-d", str(top))
    lab.make(image, None, *make)
    return Material(image, frozenset(blocks))


@dataclass(frozen=True)
class Copy:
    """A copy to be struck: of what, and where its bytes are seen to arrive.  With what
    bsync calls both, and what Python runs."""

    material: Material
    image: Path
    words: tuple[str | Path, str | Path] = ("", "")
    launcher: tuple[str, ...] = BSYNC

    def to(self, word: str, launcher: tuple[str, ...] = BSYNC) -> Copy:
        """The same copy; bsync knows its destination by `word`."""
        return replace(self, words=(self.material.image, word), launcher=launcher)

    def of(self, word: str, launcher: tuple[str, ...] = BSYNC) -> Copy:
        """The same copy; bsync knows its source by `word`."""
        return replace(self, words=(word, self.image), launcher=launcher)

    def well_begun(self) -> bool:
        """Whether a good third of it has arrived, by some of the blocks: so it is quick to ask."""
        return self.material.arrived(self.image, every=128) > 0.35


def struck(
    lab: Lab, copy: Copy, fault: Callable[[], None], mend: Callable[[], object] = lambda: None
) -> Run:
    """How a run ends to which `fault` happened in the middle of its copy; `mend` comes after it,
    once it is certain that this was the middle."""
    child = lab.start("--bwlimit", _RATE, *copy.words, launcher=copy.launcher)
    try:
        wait_until(
            lambda: copy.well_begun() or child.poll() is not None,
            lambda: "nothing arrives",
            PATIENCE,
        )
        child.send_signal(signal.SIGSTOP)  # or the rest would be there before the fault is
        assert child.poll() is None, f"it was over before the fault: {child.communicate()}"
        fault()
        share = copy.material.arrived(copy.image)
        child.send_signal(signal.SIGCONT)
        assert _MIDDLE[0] < share < _MIDDLE[1], f"not the middle: {share:.0%} had arrived"
        mend()
        out, err = child.communicate(timeout=PATIENCE)
    finally:
        child.kill()
        child.communicate()
    assert "Traceback" not in out + err, out + err
    return Run(child.returncode, out, err)


def as_it_goes(lab: Lab) -> None:
    """rsync brings every file to the disk before it takes the next one: so a fault in the middle
    meets rsync itself, and not the flush after it."""
    lab.stand_in("rsync", f'exec {which("rsync")} --fsync "$@"', when="progress2")


def daemons(lab: Lab) -> list[int]:
    """The storage daemons of this lab's runs."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            ours = str(lab.folder).encode() in (process / "environ").read_bytes()
            if ours and (process / "cmdline").read_bytes().startswith(b"qemu-storage-daemon"):
                found.append(int(process.name))
    return found
