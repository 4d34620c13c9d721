# SPDX-License-Identifier: GPL-2.0-only
"""Which features of ext filesystems go by blocks: each of them cloned and synchronised so, or by
files with the reason in the plan."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from by_blocks import IDLE, assert_same_blocks, synchronised
from lab import MIB, Lab, call, digest
from small_disks import folder

SUPPORTED = {
    "1k": "-b 1024",
    "2k": "-b 2048",
    "4k": "-b 4096",
    "inodes of 128": "-I 128 -O ^metadata_csum",
    "inodes of 256": "-I 256",
    "inodes of 1024": "-I 1024",
    "no journal": "-O ^has_journal",
    "no extents": "-O ^extent,^64bit",
    "no checksums": "-O ^metadata_csum,uninit_bg",
    "neither": "-O ^metadata_csum,^uninit_bg",
    "32 bits": "-O ^64bit",
    "seed": "-O metadata_csum_seed",
    "no flex_bg": "-b 1024 -O ^flex_bg",
    "no resize_inode": "-O ^resize_inode",
    "sparse_super2": "-b 1024 -O sparse_super2,^resize_inode",
    "no sparse_super": "-b 1024 -O ^sparse_super,^resize_inode",
    "small groups": "-b 1024 -g 4096",
    "odd groups": "-b 1024 -g 4104",
    "blocks of 8 KiB": "-F -b 8192",
    "blocks of 64 KiB": "-F -b 65536",
    "ea_inode": "-O ea_inode",
    "inline_data": "-O inline_data",
    "orphan_file": "-O orphan_file,metadata_csum_seed",
    "fast_commit": "-O fast_commit -J size=8",
    "large_dir": "-O large_dir",
    "mmp": "-O mmp -E mmp_update_interval=1",
    "casefold": "-O casefold -E encoding=utf8",
    "encrypt": "-O encrypt",
    "verity": "-O verity",
    "stable_inodes": "-O stable_inodes",
    "quota": "-O quota",
    "project": "-O quota,project -E quotatype=usrquota:grpquota:prjquota",
}
UNSUPPORTED = {
    "bigalloc": "-O bigalloc -C 16384",
    "meta_bg": "-b 1024 -O meta_bg,^resize_inode",
}


def made(lab: Lab, options: str) -> Path:
    source, tree = lab.image("source.img", 40 * MIB), folder(lab, "tree", files=20)
    for number in range(300):
        (tree / "deep" / f"{number}").write_text("tiny" * (number % 20))
    os.setxattr(tree / "file-001", "user.large", os.urandom(900))
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4", *options.split(), "-d", str(tree))
    with lab.attached(source) as device:  # mke2fs -d does not count what it copies
        call("e2fsck", "-f", "-p", "-D", device, ok=(0, 1))
        call("e2fsck", "-f", "-p", device, ok=(0, 1))  # nor -D what it gives back
    return source


@pytest.mark.parametrize("name", SUPPORTED)
def test_every_feature_of_the_table_goes_by_blocks(lab: Lab, name: str) -> None:
    source, target = made(lab, SUPPORTED[name]), lab.image("target.img", 40 * MIB)
    before = digest(source)
    planned = lab.bsync("plan", "--json", source, target).out
    assert '"do": "CopyBlocks"' in planned
    lab.bsync(source, target)
    assert_same_blocks(source, target)
    lab.assert_clean(target)
    lab.bsync("verify", source, target)
    assert IDLE in lab.bsync(source, target).out
    lab.make(source, None, "debugfs", "-w", "-R", "set_inode_field file-002 mode 0100640")
    lab.make(source, None, "debugfs", "-w", "-R", "set_inode_field file-002 ctime 20300101000000")
    changed = digest(source)
    assert changed != before
    assert IDLE not in lab.bsync(source, target).out
    assert_same_blocks(source, target)
    lab.assert_clean(target)
    assert digest(source) == changed


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_other_features_go_by_files_and_the_plan_says_why(lab: Lab, name: str) -> None:
    source, target = made(lab, UNSUPPORTED[name]), lab.image("target.img", 40 * MIB)
    assert f"not by blocks: it has {name}" in lab.bsync("plan", source, target).out
    refused = lab.bsync("--engine", "blocks", source, target, status=3)
    assert f"cannot be cloned by blocks: it has {name}" in refused.err
    assert not target.read_bytes().strip(b"\0")
    synchronised(lab, source, target)


@pytest.mark.parametrize("engine", ["auto", "files"])
def test_an_external_journal_is_refused(lab: Lab, engine: str) -> None:
    journal = lab.image("journal.img", 8 * MIB)
    source, target = lab.image("source.img", 16 * MIB), lab.image("target.img", 16 * MIB)
    with lab.attached(journal) as device:
        call("mke2fs", "-q", "-O", "journal_dev", "-b", "4096", device)
        lab.make(source, None, "mke2fs", "-q", "-t", "ext4", "-b", "4096", "-J", f"device={device}")
    option = ("--engine", engine)
    assert "journal is on another device" in lab.bsync(*option, source, target, status=3).err
    assert "unsupported contents: jbd" in lab.bsync(*option, journal, target, status=3).err
    assert not target.read_bytes().strip(b"\0")
