# SPDX-License-Identifier: GPL-2.0-only
"""Devices as the system's tools and their own bytes described them once.

A capture is what a survey saw of a real image: the answers of sfdisk(8) and blkid(8), and
the sectors that were read.  `BSYNC_RECAPTURE=1` makes the images again, and looks again.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bsync.acquire.backing import BackingExtent
from bsync.acquire.block import Device
from bsync.model.layout import Extent
from bsync.run import Completed

FOLDER = Path(__file__).parent / "captures"
SECTOR = 512


@dataclass
class Capture:
    """What was seen: answers of tools by command line, and sectors that are not zero."""

    size: int
    sector_size: int = SECTOR
    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    sectors: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def load(cls, name: str) -> Capture:
        data: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
        answers = {key: (row["status"], row["output"]) for key, row in data["answers"].items()}
        sectors = {int(at): base64.b64decode(text) for at, text in data["sectors"].items()}
        return cls(data["size"], data["sector_size"], answers, sectors)

    def save(self, name: str) -> None:
        rows = {
            key: {"status": status, "output": output}
            for key, (status, output) in sorted(self.answers.items())
        }
        sectors = {
            str(at): base64.b64encode(data.rstrip(b"\0")).decode()
            for at, data in sorted(self.sectors.items())
        }
        data = {"size": self.size, "sector_size": self.sector_size, "answers": rows}
        text = json.dumps({**data, "sectors": sectors}, indent=1, ensure_ascii=False)
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.json").write_text(text + "\n")


class Captured(Device):
    """A device that answers from a capture."""

    capture: Capture

    @property
    def room(self) -> None:
        """Nobody asks a captured device for more room."""

    def read(self, offset: int, size: int) -> bytes:
        size = max(0, min(size, self.size - offset))
        data = bytearray(size)
        for at, sector in self.capture.sectors.items():
            start = at * SECTOR - offset
            if -SECTOR < start < size:
                whole = sector.ljust(SECTOR, b"\0")
                piece = whole[max(0, -start) : size - start]
                data[max(0, start) : max(0, start) + len(piece)] = piece
        return bytes(data)

    def run(self, *argv: str, **_: object) -> Completed:
        """In the place of `bsync.run.run`."""
        status, output = self.capture.answers[_key(argv, self.path)]
        return Completed(status, output, "")


def captured(name: str, word: str) -> Captured:
    """The device `name`, called `word`."""
    capture = Capture.load(name)
    backing = BackingExtent(name, Extent(0, capture.size))
    device = Captured(word, "DEVICE", -1, capture.size, capture.sector_size, "image file", backing)
    object.__setattr__(device, "capture", capture)
    return device


def _key(argv: tuple[str, ...], path: str) -> str:
    return " ".join("DEVICE" if word == path else word for word in argv)


class Recorder(Device):
    """An image file that writes down what is asked of it."""

    seen: Capture

    @property
    def room(self) -> None:
        """What a capture is asked, too."""

    def read(self, offset: int, size: int) -> bytes:
        for at in range(offset // SECTOR, -(-(offset + size) // SECTOR)):
            sector = super().read(at * SECTOR, SECTOR)
            if any(sector):
                self.seen.sectors[at] = sector
        return super().read(offset, size)

    def run(self, *argv: str, **_: object) -> Completed:
        """In the place of `bsync.run.run`: the real answer, and a note of it."""
        environment = {**os.environ, "LC_ALL": "C.UTF-8", "BLKID_FILE": "/dev/null"}
        done = subprocess.run(argv, capture_output=True, text=True, env=environment, check=False)
        output = done.stdout.replace(self.path, "DEVICE")
        self.seen.answers[_key(argv, self.path)] = (done.returncode, output)
        return Completed(done.returncode, done.stdout, done.stderr)


def recorder(image: Path) -> Recorder:
    """A recorder on `image`; the caller closes its descriptor."""
    size = image.stat().st_size
    descriptor = os.open(image, os.O_RDONLY)
    backing = BackingExtent("image", Extent(0, size))
    device = Recorder("image", str(image), descriptor, size, SECTOR, "image file", backing)
    object.__setattr__(device, "seen", Capture(size))
    return device
