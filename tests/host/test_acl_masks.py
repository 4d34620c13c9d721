# SPDX-License-Identifier: GPL-2.0-only
"""ACL masks are compared by themselves: a mode need not tell them."""

from __future__ import annotations

import os
from pathlib import Path

from lab import Lab, call
from pairs import Pair

ACCESS = "system.posix_acl_access"


def set_behind_the_kernel(lab: Lab, image: Path, name: str, acl: bytes) -> None:
    """The kernel would change the mode, too."""
    value = lab.folder / "acl"
    value.write_bytes(acl)
    call("debugfs", "-w", "-R", f"ea_set -f {value} {name} {ACCESS}", image)


def lists(tree: Path) -> list[bytes]:
    """ACLs that differ in nothing but their masks: r-x and rwx."""
    found = []
    for mask in ("rx", "rwx"):
        (tree / "model").write_text("")
        (tree / "model").chmod(0o650)
        call("setfacl", "-m", f"u:1234:rwx,m::{mask}", tree / "model")
        found.append(os.getxattr(tree / "model", ACCESS))
    (tree / "model").unlink()
    return found


def test_a_mask_that_differs_is_found_and_set(lab: Lab) -> None:
    pair = Pair(lab)
    names = ("file", "folder", "pipe", "immutable")
    with pair.changing() as tree:
        (tree / "folder").mkdir()
        os.mkfifo(tree / "pipe")
        (tree / "file").write_text("file")
        (tree / "immutable").write_text("immutable")
        other, wide = lists(tree)
        for name in names:
            (tree / name).chmod(0o650)
            os.setxattr(tree / name, ACCESS, other)
        call("chattr", "+i", tree / "immutable")
    pair.synchronised("--engine", "files")
    for name in names:
        set_behind_the_kernel(lab, pair.target, name, wide)
    said = lab.bsync("verify", pair.source, pair.target, status=6).out
    assert all(f"{name} differs in ACL mask" in said for name in names), said
    pair.synchronised("--engine", "files")
    for name in names:
        set_behind_the_kernel(lab, pair.source, name, wide)
    lab.bsync(pair.source, pair.target)
    with lab.mounted(pair.target, read_only=True) as tree:
        assert [os.getxattr(tree / name, ACCESS) for name in names] == [wide] * 4
    assert "0 bytes transferred" in lab.bsync(pair.source, pair.target).out


def test_a_default_mask(lab: Lab) -> None:
    pair = Pair(lab)
    with pair.changing() as tree:
        (tree / "folder").mkdir()
        call("setfacl", "-d", "-m", "u:1234:rwx", tree / "folder")
    pair.synchronised("--engine", "files")
    with pair.changing() as tree:
        call("setfacl", "-d", "-m", "m::r", tree / "folder")
    pair.synchronised("--engine", "files")
