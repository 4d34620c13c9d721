#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Make the benchmark's source: an ext4 image with a realistic tree, the same for each seed."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import struct
import sys
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

from benchlib.disks import attached, flush, locked, mounted, new_image, work_directory
from benchlib.proc import run, signals_as_exceptions, signals_deferred

FILES = 300_000
BYTES = 6_200_000_000
QUICK_FILES = 5_000
QUICK_BYTES = 100_000_000
SEED = 20_240_229

MIB = 1 << 20
POOL_BYTES = 32 * MIB
FILES_PER_DIRECTORY = 25
# A third of the data lies in a few large files; the rest is log-normal, as in home directories.
LARGE_SHARES = (0.06, 0.05, 0.04, 0.04, 0.03, 0.03, 0.02, 0.02, 0.01, 0.01, 0.01, 0.01)
LARGE_LIMIT = 400 * MIB
SIZE_SIGMA = 1.7
EVERY_HARD_LINK = 100
EVERY_SYMLINK = 50
EVERY_XATTR = 40
EVERY_ACL = 200
EVERY_EMPTY = 150
EVERY_UNUSUAL_NAME = 300
SPARSE_FILES = 6
SPARSE_BYTES = 32 * MIB
SPARSE_DATA = 128 * 1024
MODES = (0o644, 0o644, 0o644, 0o600, 0o640, 0o755)
OWNERS = ((0, 0), (1000, 1000), (1000, 1000), (1001, 1001), (33, 33))
SUFFIXES = (".txt", ".c", ".html", ".jpg", ".json", ".log", "", ".so", ".tar.xz", ".py")
NEWEST = 1_700_000_000
FIVE_YEARS = 5 * 365 * 86_400
BYTES_PER_INODE = 16_384  # The default of mke2fs, which contenders use for the destination.
SMALLEST_IMAGE = 768 * MIB  # Below 512 MiB mke2fs chooses another geometry.


@dataclass(frozen=True)
class Parameters:
    """What determines the source's contents."""

    files: int
    bytes: int
    seed: int
    large: bool = True  # A third of the data lies in a few large files, and some are sparse.

    def key(self) -> str:
        """A name for the cached image, new whenever this script changes."""
        text = f"{self.files}-{self.bytes}-{self.seed}-{self.large}-".encode()
        return hashlib.sha256(text + Path(__file__).read_bytes()).hexdigest()[:16]

    def image_bytes(self) -> int:
        """Room enough for data, block rounding, metadata and inodes."""
        data = self.bytes * 14 // 10 + self.files * 4096
        inodes = self.files * BYTES_PER_INODE * 5 // 4
        return -(-max(data, inodes, SMALLEST_IMAGE) // MIB) * MIB


@dataclass(frozen=True)
class Summary:
    """What the source holds, for the report."""

    files: int
    directories: int
    hard_links: int
    symlinks: int
    data_bytes: int
    image_bytes: int


@dataclass(frozen=True)
class Source:
    """The cached image and its summary."""

    image: Path
    summary: Summary


class Content:
    """Incompressible bytes, cut from one pseudo-random pool at random places."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._pool = memoryview(rng.randbytes(POOL_BYTES))

    def write(self, descriptor: int, size: int) -> None:
        """Write `size` bytes at the descriptor's position."""
        while size:
            start = self._rng.randrange(POOL_BYTES * 3 // 4)
            size -= os.write(descriptor, self._pool[start : start + size])


class Planter:
    """Fills a mounted, empty file system."""

    def __init__(self, root: Path, parameters: Parameters) -> None:
        self._root = root
        self._parameters = parameters
        self._rng = random.Random(parameters.seed)
        self._content = Content(self._rng)
        self._directories = [str(root)]
        self._files: list[str] = []

    def plant(self) -> Summary:
        """Make the whole tree; directories' times come last, since all else changes them."""
        self._make_directories()
        sizes = file_sizes(self._parameters, self._rng)
        places = self._places(len(sizes))
        for number, (size, place) in enumerate(zip(sizes, places, strict=True)):
            self._make_file(number, place, size)
        sparse = SPARSE_FILES if self._parameters.large else 0
        for number in range(sparse):
            self._make_sparse_file(number)
        links = self._make_hard_links()
        symlinks = self._make_symlinks()
        for directory in self._directories:
            os.utime(directory, ns=self._times())
        return Summary(
            files=len(self._files),
            directories=len(self._directories),
            hard_links=links,
            symlinks=symlinks,
            data_bytes=sum(sizes) + sparse * 2 * SPARSE_DATA,
            image_bytes=self._parameters.image_bytes(),
        )

    def _make_directories(self) -> None:
        # A parent chosen among all earlier ones gives depths from 1 to about 20.
        for number in range(max(1, self._parameters.files // FILES_PER_DIRECTORY)):
            parent = self._rng.choice(self._directories)
            path = f"{parent}/{self._name('dir', number)}"
            os.mkdir(path)
            os.chmod(path, self._rng.choice((0o755, 0o755, 0o750, 0o700)))
            os.chown(path, *self._rng.choice(OWNERS))
            self._directories.append(path)

    def _places(self, count: int) -> list[str]:
        # Heavy-tailed: most directories hold a few files, some hold thousands.
        weights = [self._rng.paretovariate(1.1) for _ in self._directories]
        return self._rng.choices(self._directories, weights, k=count)

    @signals_deferred()  # A descriptor lost on the way to `try` would keep the mount busy.
    def _make_file(self, number: int, directory: str, size: int) -> None:
        path = f"{directory}/{self._name('file', number)}{self._rng.choice(SUFFIXES)}"
        descriptor = self._create(path)
        try:
            self._content.write(descriptor, size)
            self._finish(descriptor, number)
        finally:
            os.close(descriptor)

    @signals_deferred()
    def _make_sparse_file(self, number: int) -> None:
        path = f"{self._rng.choice(self._directories)}/{self._name('sparse', number)}.img"
        descriptor = self._create(path)
        try:
            os.truncate(descriptor, SPARSE_BYTES)
            for position in (SPARSE_BYTES // 8, SPARSE_BYTES // 2):
                os.lseek(descriptor, position, os.SEEK_SET)
                self._content.write(descriptor, SPARSE_DATA)
            self._finish(descriptor, number)
        finally:
            os.close(descriptor)

    def _create(self, path: str) -> int:
        self._files.append(path)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def _finish(self, descriptor: int, number: int) -> None:
        os.fchown(descriptor, *self._rng.choice(OWNERS))
        os.fchmod(descriptor, self._rng.choice(MODES))
        if number % EVERY_XATTR == 0:
            value = self._rng.randbytes(self._rng.randrange(8, 200))
            os.setxattr(descriptor, "user.bench", value)
        if number % EVERY_ACL == 0:
            os.setxattr(descriptor, "system.posix_acl_access", access_list())
        os.utime(descriptor, ns=self._times())

    def _make_hard_links(self) -> int:
        count = max(1, len(self._files) // EVERY_HARD_LINK)
        for number in range(count):
            directory = self._rng.choice(self._directories)
            os.link(self._rng.choice(self._files), f"{directory}/{self._name('link', number)}")
        return count

    def _make_symlinks(self) -> int:
        count = max(1, len(self._files) // EVERY_SYMLINK)
        for number in range(count):
            directory = self._rng.choice(self._directories)
            path = f"{directory}/{self._name('symlink', number)}"
            os.symlink(os.path.relpath(self._rng.choice(self._files), directory), path)
            os.utime(path, ns=self._times(), follow_symlinks=False)
        return count

    def _name(self, kind: str, number: int) -> str:
        unusual = "Größe, naïve 名" if number % EVERY_UNUSUAL_NAME == 1 else ""
        padding = self._rng.randbytes(self._rng.randrange(12)).hex()
        return f"{kind}{unusual}-{number:x}{padding}"

    def _times(self) -> tuple[int, int]:
        seconds = NEWEST - self._rng.randrange(FIVE_YEARS)
        moment = seconds * 1_000_000_000 + self._rng.randrange(1_000_000_000)
        return moment, moment


def file_sizes(parameters: Parameters, rng: random.Random) -> list[int]:
    """Sizes of all regular files, together at least `parameters.bytes`."""
    shares = LARGE_SHARES if parameters.large else ()
    large = [min(int(parameters.bytes * share), LARGE_LIMIT) for share in shares]
    large = large[: parameters.files]
    count = parameters.files - len(large)
    weights = [rng.lognormvariate(0.0, SIZE_SIGMA) for _ in range(count)]
    weights = [0.0 if i % EVERY_EMPTY == 1 else weight for i, weight in enumerate(weights)]
    scale = (parameters.bytes - sum(large)) / sum(weights) if any(weights) else 0.0
    sizes = large + [int(weight * scale) + (weight > 0) for weight in weights]
    rng.shuffle(sizes)
    return sizes


def access_list() -> bytes:
    """An access ACL as the kernel stores it: one more user may read."""
    nobody = 0xFFFFFFFF
    entries = ((1, 6, nobody), (2, 4, 1001), (4, 4, nobody), (16, 4, nobody), (32, 0, nobody))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def make_source(parameters: Parameters, work: Path) -> Source:
    """The cached source, made now where it is missing."""
    image = work / f"source-{parameters.key()}.img"
    summary_file = image.with_suffix(".json")
    if image.exists() and summary_file.exists():
        return Source(image, Summary(**json.loads(summary_file.read_text())))
    unfinished = image.with_suffix(".unfinished")
    try:
        summary = _fill(unfinished, parameters, work)
        unfinished.rename(image)
    finally:
        unfinished.unlink(missing_ok=True)
    summary_file.write_text(json.dumps(asdict(summary), indent=2) + "\n")
    return Source(image, summary)


def _fill(image: Path, parameters: Parameters, work: Path) -> Summary:
    new_image(image, parameters.image_bytes())
    identity = str(uuid.UUID(int=random.Random(parameters.seed).getrandbits(128), version=4))
    # Nothing is left for the kernel to initialize later, in the midst of a measurement.
    extended = f"lazy_itable_init=0,lazy_journal_init=0,hash_seed={identity}"
    with attached(image) as device:
        run(["mkfs.ext4", "-q", "-F", "-U", identity, "-L", "bench", "-E", extended, device])
        with mounted(device, work, "rw") as root:
            summary = Planter(root, parameters).plant()
    flush(image)
    return summary


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """Options that determine the source, the same in both scripts."""
    parser.add_argument("--files", type=int, help=f"regular files, default {FILES}")
    parser.add_argument("--bytes", type=int, help=f"bytes of data, default {BYTES}")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--quick", action="store_true", help=f"only {QUICK_FILES} files, {QUICK_BYTES} bytes"
    )


def parameters_from(options: argparse.Namespace) -> Parameters:
    """The source's parameters as the command line gives them."""
    files, size = (QUICK_FILES, QUICK_BYTES) if options.quick else (FILES, BYTES)
    return Parameters(options.files or files, options.bytes or size, options.seed)


def main() -> int:
    """Make the source, print its path and what it holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_size_options(parser)
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("only root can mount the image")
    signals_as_exceptions()
    work = work_directory()
    with locked(work):
        source = make_source(parameters_from(options), work)
    print(source.image)
    print(json.dumps(asdict(source.summary), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
