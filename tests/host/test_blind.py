# SPDX-License-Identifier: GPL-2.0-only
"""Where bsync cannot look, or may not act, it says so, and takes that for no good sign."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from pathlib import Path

import pytest
from lab import MIB, Lab, Run, call, digest
from small_disks import bare

from bsync.acquire import locks
from bsync.errors import Unavailable

BSYNC = f"{sys.executable} -m bsync"


def run(lab: Lab, before: str, *words: str | Path) -> Run:
    return lab.within(f"{before}\nexec {BSYNC} {' '.join(map(str, words))}")


@pytest.mark.parametrize(
    "blinding", ["umount -l /sys", "mount -t tmpfs none /sys"], ids=["none", "empty"]
)
def test_without_sysfs_nothing_is_known_to_be_free(lab: Lab, blinding: str) -> None:
    source = bare(lab)
    before = digest(source)
    device = call("losetup", "--find", "--show", "--offset", "1024", source).strip()
    try:
        said = run(lab, blinding, "--yes", "--raw", source, device)
    finally:
        call("losetup", "--detach", device)
    assert said.status == 4, said
    assert "/sys" in said.err
    assert digest(source) == before


def test_two_images_without_sysfs(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    assert run(lab, "umount -l /sys", source, target).status == 4


def test_a_chroot_that_is_no_mount_point(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    below = f"{lab.folder}/below"
    folders = " ".join(f"{below}/{name}" for name in ("usr", "proc", "sys", "dev", "tmp", "work"))
    said = lab.within(
        f"mkdir -p {folders} {below}{lab.folder}\n"
        f"for f in usr proc sys dev; do mount --rbind /$f {below}/$f; done\n"
        f"for f in bin sbin lib lib64; do ln -s usr/$f {below}/$f; done\n"
        f"mkdir -p {below}{Path(sys.prefix).parent}\n"
        f"mount --bind {Path(sys.prefix).parent} {below}{Path(sys.prefix).parent}\n"
        f"mount --bind {lab.folder} {below}{lab.folder}\n"
        f"chroot {below} {BSYNC} {source} {target}"
    )
    assert said.status == 4, said
    assert "mount --bind" in said.err


def test_an_immutable_destination(lab: Lab) -> None:
    source, target = bare(lab), lab.image("target.img", 64 * MIB)
    call("chattr", "+i", target)
    try:
        said = lab.bsync(source, target, status=4).err
    finally:
        call("chattr", "-i", target)
    assert "lsattr" in said
    assert "run as root" not in said


def test_a_folder_that_is_not_there(lab: Lab) -> None:
    said = lab.bsync(bare(lab), lab.folder / "none" / "new.img", "--create", "64M", status=4).err
    assert "truncate" not in said


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_filesystem_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(_descriptor: int, _how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    path = tmp_path / "image"
    path.write_bytes(b"x")
    with path.open("r+b") as file, pytest.raises(Unavailable) as caught:
        locks.hold(file.fileno(), str(path), writable=True, wanted=True)
    assert str(path) in caught.value.message
    assert "locks" in caught.value.hint
