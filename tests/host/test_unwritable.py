# SPDX-License-Identifier: GPL-2.0-only
"""A sector of the destination that cannot be written, behind a server and FUSE: the kernel tells
late, and of whatever it wrote there.  No clone with it is called good, or can be taken for one."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from lab import MIB, Lab, call, wait_until
from loopback_target import free_port

SIZE = 24 * MIB
XFS_SIZE = 320 * MIB  # about the least that mkfs.xfs makes
PLACES = (1024, 9 * MIB + 129 * 512)  # the superblock of an ext, and where all have files
MAKING = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-O", "^has_journal"),
    "pages": ("mkfs.ext4", "-q", "-F", "-b", "4096"),
    "vfat": ("mkfs.vfat",),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
ENGINES = (
    ("ext4", "files"), ("ext4", "blocks"), ("pages", "blocks"), ("vfat", "blocks"), ("ext4", "raw"),
    ("xfs", "blocks"),
)  # fmt: skip


def source_of(lab: Lab, kind: str) -> Path:
    """An image that is half full, or an XFS with a few files."""
    image, tree = lab.image("source.img", size_of(kind)), lab.folder / "tree"
    tree.mkdir()
    for number in range(40):
        (tree / f"file-{number}").write_bytes(os.urandom(300_000))
    if kind == "xfs":
        call(*MAKING[kind], image)
        with lab.mounted(image) as mounted:
            call("cp", *sorted(tree.iterdir()), mounted)
    elif kind != "vfat":
        call(*MAKING[kind], "-d", tree, image)
    else:
        call(*MAKING[kind], image)
        call("mcopy", "-i", image, *sorted(tree.iterdir()), "::")
    return image


def size_of(kind: str) -> int:
    return XFS_SIZE if kind == "xfs" else SIZE


def places(lab: Lab, kind: str, source: Path) -> tuple[int, int]:
    """Where the superblock is, and the contents of a file."""
    if kind != "xfs":
        return PLACES
    with lab.mounted(source) as tree:
        said = call("filefrag", "-b512", "-v", tree / "file-20")
    (first,) = re.findall(r"^ +0: +\d+\.\. +\d+: +(\d+)\.\.", said, re.MULTILINE)
    return 0, int(first) * 512 + 129 * 512


@contextlib.contextmanager
def unwritable(image: Path, at: int) -> Iterator[str]:
    """The locator of an image that qemu-nbd serves, but for what is written to the byte `at`."""
    port = free_port()
    options = {
        "driver": "raw", "file.driver": "blkdebug", "file.image.driver": "file",
        "file.image.filename": image, "file.inject-error.0.event": "none",
        "file.inject-error.0.iotype": "write", "file.inject-error.0.sector": at // 512,
        "file.inject-error.0.once": "off",
    }  # fmt: skip
    words = ",".join(f"{name}={value}" for name, value in options.items())
    where = ("--bind", "127.0.0.1", "--port", str(port), "--persistent")
    server = subprocess.Popen(["qemu-nbd", *where, "--image-opts", words])
    try:
        listens = f":{port:04X} 00000000:0000 0A"
        wait_until(lambda: listens in Path("/proc/net/tcp").read_text(), lambda: "no server")
        yield f"nbd://127.0.0.1:{port}/"
    finally:
        server.terminate()
        server.wait()


@pytest.mark.parametrize(("kind", "engine"), ENGINES)
def test_no_clone_is_good_that_is_not(lab: Lab, kind: str, engine: str) -> None:
    source = source_of(lab, kind)
    name = call("blkid", "-p", "-o", "value", "-s", "UUID", source).strip()
    statuses = []
    for number, at in enumerate(places(lab, kind, source)):
        target = lab.image(f"target-{number}.img", size_of(kind))
        with unwritable(target, at) as word:
            run = lab.bsync("--engine", engine, source, word, status=None)
        statuses.append(run.status)
        found = call("blkid", "-p", "-o", "export", target, ok=(0, 2))
        if run.status == 0:
            lab.bsync("verify", source, target)
        else:
            assert run.status == 5, run
            assert f"UUID={name}" not in found, (at, found, run)
            assert len(run.err.splitlines()) <= 2, run.err
    assert statuses[1] == 5
    lab.bsync("--engine", engine, source, target)
    lab.bsync("verify", source, target)
