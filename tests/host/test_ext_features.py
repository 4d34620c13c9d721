# SPDX-License-Identifier: GPL-2.0-only
"""ext2, ext3 and ext4 of every make: what a clone on the same size and on a larger one keeps."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lab import MIB, Lab, call
from trees import assert_same_tree

pytestmark = pytest.mark.engine("files")

# Name, size in MiB, how the source is made, how it is tuned afterwards.
Variant = tuple[str, int, str, str]
VARIANTS: tuple[Variant, ...] = (
    ("ext2", 16, "-t ext2", ""),
    ("ext2-1k-128", 12, "-t ext2 -b 1024 -I 128", ""),
    ("ext2-2k-256", 16, "-t ext2 -b 2048 -I 256", ""),
    ("ext2-4k-512", 24, "-t ext2 -b 4096 -I 512", ""),
    ("ext2-revision-0", 8, "-t ext2 -r 0", ""),
    ("ext2-revision-0-4k", 16, "-t ext2 -r 0 -b 4096", ""),
    ("ext2-no-features", 8, "-t ext2 -O none -I 128", ""),
    ("ext2-plain", 12, "-t ext2 -O none,filetype,sparse_super", ""),
    ("ext3", 32, "-t ext3", ""),
    ("ext3-1k-128", 16, "-t ext3 -b 1024 -I 128", ""),
    ("ext3-1k-512", 16, "-t ext3 -b 1024 -I 512", ""),
    ("ext3-no-dir-index", 16, "-t ext3 -O ^dir_index,^large_file", ""),
    ("ext4-64bit-csum", 32, "-t ext4 -O 64bit,metadata_csum", ""),
    ("ext4-32bit-csum", 32, "-t ext4 -O ^64bit,metadata_csum", ""),
    ("ext4-64bit-no-csum", 32, "-t ext4 -O 64bit,^metadata_csum,^uninit_bg", ""),
    ("ext4-uninit-bg", 32, "-t ext4 -O ^metadata_csum,uninit_bg", ""),
    ("ext4-csum-seed", 32, "-t ext4 -O metadata_csum_seed", ""),
    ("ext4-csum-seed-orphan-file", 32, "-t ext4 -O metadata_csum_seed,orphan_file", ""),
    ("ext4-no-journal", 16, "-t ext4 -O ^has_journal", ""),
    ("ext4-no-journal-128", 16, "-t ext4 -O ^has_journal -I 128 -b 1024", ""),
    ("ext4-no-flex", 32, "-t ext4 -O ^flex_bg", ""),
    ("ext4-flex-1", 32, "-t ext4 -G 1", ""),
    ("ext4-flex-4-1k", 48, "-t ext4 -b 1024 -G 4", ""),
    ("ext4-no-extents", 32, "-t ext4 -O ^extent,^64bit", ""),
    ("ext4-no-extra", 32, "-t ext4 -O ^extra_isize,^huge_file,^dir_nlink", ""),
    ("ext4-no-resize", 32, "-t ext4 -O ^resize_inode", ""),
    ("ext4-bigalloc", 64, "-t ext4 -O bigalloc -C 16384", ""),
    ("ext4-bigalloc-1k", 64, "-t ext4 -O bigalloc -b 1024 -C 65536", ""),
    ("ext4-inline-data", 32, "-t ext4 -O inline_data", ""),
    ("ext4-ea-inode", 32, "-t ext4 -O ea_inode", ""),
    ("ext4-sparse-super2", 48, "-t ext4 -b 1024 -O sparse_super2,^resize_inode", ""),
    ("ext4-meta-bg", 48, "-t ext4 -b 1024 -O meta_bg,^resize_inode", ""),
    ("ext4-meta-bg-32", 48, "-t ext4 -b 1024 -O meta_bg,^resize_inode,^64bit,^metadata_csum", ""),
    ("ext4-large-dir", 32, "-t ext4 -O large_dir", ""),
    ("ext4-fast-commit", 32, "-t ext4 -O fast_commit -J size=8", ""),
    ("ext4-big-journal", 64, "-t ext4 -J size=24", ""),
    ("ext4-small-journal", 64, "-t ext4 -b 1024 -J size=1", ""),
    ("ext4-inode-1024", 32, "-t ext4 -I 1024", ""),
    ("ext4-many-inodes", 32, "-t ext4 -i 1024", ""),
    ("ext4-few-inodes", 32, "-t ext4 -N 64", ""),
    ("ext4-small-groups", 48, "-t ext4 -b 1024 -g 4096", ""),
    ("ext4-stride", 32, "-t ext4 -E stride=16,stripe_width=64", ""),
    ("ext4-reserved-none", 32, "-t ext4 -m 0", ""),
    ("ext4-reserved-20", 32, "-t ext4 -m 20", ""),
    ("ext4-hash-tea", 32, "-t ext4", "-E hash_alg=tea"),
    ("ext4-hash-legacy", 32, "-t ext4", "-E hash_alg=legacy"),
    ("ext4-checked", 32, "-t ext4", "-c 25 -i 90d -e remount-ro"),
    ("ext4-checked-seconds", 32, "-t ext4", "-c 1 -i 4321s -e panic"),
    ("ext4-reserved-owner", 32, "-t ext4", "-u 1000 -g 100 -r 321"),
    ("ext4-mount-options", 32, "-t ext4", "-o journal_data_writeback,debug,^acl,nodelalloc"),
    ("ext4-mount-options-2", 32, "-t ext4", "-o journal_data,^user_xattr,bsdgroups,nobarrier"),
    ("ext4-no-mount-options", 32, "-t ext4", "-o ^user_xattr,^acl"),
    ("ext4-mount-opts", 32, "-t ext4", "-E mount_opts=nodelalloc"),
    ("ext4-mount-opts-comma", 32, "-t ext4", "ssv mount_opts nodelalloc,debug,stripe=16"),
    ("ext4-odd-size", 37, "-t ext4 -b 1024", ""),
)

KEPT = (
    "Filesystem volume name", "Filesystem UUID", "Filesystem revision #", "Filesystem features",
    "Default mount options", "Mount options", "Errors behavior", "Block size", "Cluster size",
    "Inode size", "First inode", "Flex block group size", "Maximum mount count", "Check interval",
    "Reserved blocks uid", "Reserved blocks gid", "Default directory hash",
    "Total journal size", "Journal length", "Fast commit length", "Checksum type",
    "Required extra isize", "Desired extra isize", "First block", "User quota inode",
    "Group quota inode",
)  # fmt: skip


def header(lab: Lab, image: Path) -> dict[str, str]:
    """What `dumpe2fs -h` says, by its own names."""
    with lab.attached(image, read_only=True) as device:
        lines = call("dumpe2fs", "-h", device).splitlines()
    rows = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in rows}


def folder(lab: Lab) -> Path:
    """A few files, for `mke2fs -d`."""
    top = lab.folder / "tree"
    (top / "a" / "b" / "c").mkdir(parents=True)
    for number in range(12):
        (top / "a" / f"file-{number}").write_bytes(os.urandom(number * 700))
    os.link(top / "a" / "file-3", top / "a" / "b" / "link")
    (top / "a" / "symlink").symlink_to("b/c")
    (top / "long-symlink").symlink_to("x" * 200)
    return top


def made(lab: Lab, size: int, how: str, tuned: str) -> Path:
    image = lab.image("source.img", size)
    words = how.split()
    lab.make(image, None, "mke2fs", "-q", "-F", "-L", "the label", "-d", str(folder(lab)), *words)
    if tuned.startswith("ssv"):
        lab.make(image, None, "debugfs", "-w", "-R", tuned)
    elif tuned:
        lab.make(image, None, "tune2fs", *tuned.split())
    return image


def assert_kept(here: dict[str, str], there: dict[str, str]) -> None:
    pairs = {key: (here.get(key), there.get(key)) for key in KEPT}
    differ = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
    assert not differ, f"(source, destination): {differ}"


@pytest.mark.parametrize("variant", VARIANTS, ids=[variant[0] for variant in VARIANTS])
def test_same_size_keeps_everything(lab: Lab, variant: Variant) -> None:
    _, size, how, tuned = variant
    source = made(lab, size * MIB, how, tuned)
    target = lab.image("target.img", size * MIB)

    lab.bsync(source, target)
    here, there = header(lab, source), header(lab, target)
    assert_kept(here, there)
    for key in ("Block count", "Inode count", "Reserved block count", "Blocks per group"):
        assert here[key] == there[key], key
    lab.assert_clean(target)
    assert_same_tree(lab, source, target)
    assert "done: 0 files, 0 bytes transferred" in lab.bsync(source, target).out
    assert_kept(here, header(lab, target))
    lab.assert_clean(target)


# What only tune2fs sets does not depend on the size.
SIZED = [variant for variant in VARIANTS if not variant[3] or "-r" in variant[3]]


@pytest.mark.parametrize("variant", SIZED, ids=[variant[0] for variant in SIZED])
def test_larger_size_keeps_what_does_not_depend_on_it(lab: Lab, variant: Variant) -> None:
    _, size, how, tuned = variant
    source = made(lab, size * MIB, how, tuned)
    larger = size * MIB * 5 // 2 + 7 * 4096
    target = lab.image("target.img", larger)

    lab.bsync(source, target)
    here, there = header(lab, source), header(lab, target)
    assert_kept(here, there)
    blocks, reserved = int(there["Block count"]), int(there["Reserved block count"])
    assert blocks * int(there["Block size"]) > larger - 9 * MIB, "mke2fs may drop a last group"
    assert int(there["Inode count"]) >= int(here["Inode count"])
    wanted = int(here["Reserved block count"]) * blocks / int(here["Block count"])
    assert abs(reserved - wanted) <= 1
    lab.assert_clean(target)


def test_never_checked_stays_never_checked(lab: Lab) -> None:
    """A maximum of 0 mounts means the same as one of -1, which is all that tune2fs writes."""
    source = made(lab, 16 * MIB, "-t ext4", "ssv max_mnt_count 0")
    target = lab.image("target.img", 16 * MIB)
    assert header(lab, source)["Maximum mount count"] == "0"
    lab.bsync(source, target)
    assert header(lab, target)["Maximum mount count"] in ("0", "-1")


def test_tuning_follows_on_the_next_run(lab: Lab) -> None:
    source = made(lab, 32 * MIB, "-t ext4", "-o journal_data_writeback,discard -c 7 -i 3d")
    target = lab.image("target.img", 32 * MIB)
    lab.bsync(source, target)
    tuned = "-c -1 -i 0 -e panic -u 7 -g 8 -r 99 -o ^journal_data_writeback,^discard,bsdgroups"
    lab.make(source, None, "tune2fs", *tuned.split(), "-L", "another label")
    lab.make(source, None, "tune2fs", "-E", "hash_alg=tea,mount_opts=nodelalloc")

    assert "done: 0 files, 0 bytes transferred" in lab.bsync(source, target).out
    here, there = header(lab, source), header(lab, target)
    assert there["Filesystem volume name"] == "another label"
    assert_kept(here, there)
    assert here["Reserved block count"] == there["Reserved block count"]
    lab.make(source, None, "tune2fs", "-E", "mount_opts=", "-o", "journal_data_ordered", "-L", "")
    lab.bsync(source, target)
    assert_kept(header(lab, source), header(lab, target))


LABELS = ("sixteen bytes la", "with 'quotes\"", "-L", "a,b", "sl/ash", "Zu\u0308rich €", "\\back")


@pytest.mark.parametrize("label", LABELS)
def test_labels(lab: Lab, label: str) -> None:
    source = lab.image("source.img", 8 * MIB)
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4", "-L", label)
    target = lab.image("target.img", 8 * MIB)
    lab.bsync(source, target)
    assert header(lab, target)["Filesystem volume name"] == label
    assert "0 files, 0 bytes" in lab.bsync(source, target).out


UNKEPT = ("encrypt", "casefold", "verity", "stable_inodes")


@pytest.mark.parametrize("feature", UNKEPT)
def test_features_that_files_do_not_carry_are_refused(lab: Lab, feature: str) -> None:
    source = made(lab, 16 * MIB, f"-t ext4 -O {feature}", "")
    target = lab.image("target.img", 16 * MIB)
    before = source.read_bytes()

    run = lab.bsync(source, target, status=3)
    assert feature in run.err
    assert "--engine raw" in run.err
    assert not target.read_bytes().strip(b"\0")
    lab.bsync("--engine", "raw", source, target)
    assert target.read_bytes() == before == source.read_bytes()
    assert "identical" in lab.bsync("verify", source, target).out
    assert "0 bytes transferred" in lab.bsync("--engine", "raw", source, target).out


def test_multiple_mount_protection_is_kept(lab: Lab) -> None:
    """Whoever opens it writable waits for a few of its intervals, so that one is kept too."""
    source = made(lab, 16 * MIB, "-t ext4 -O mmp -E mmp_update_interval=1", "")
    target = lab.image("target.img", 16 * MIB)
    lab.bsync(source, target)
    here, there = header(lab, source), header(lab, target)
    assert there["MMP update interval"] == here["MMP update interval"] == "1"
    assert_kept(here, there)
    lab.assert_clean(target)
    lab.bsync("verify", source, target)


def test_journalled_files_stay_so_or_are_named(lab: Lab) -> None:
    """The flag takes a privilege that root lacks in some containers; it is not lost unsaid."""
    source, target = made(lab, 32 * MIB, "-t ext4", ""), lab.image("target.img", 32 * MIB)
    name = "a/file-3"
    journalled = f"set_inode_field /{name} flags 0x84000"
    lab.make(source, None, "debugfs", "-w", "-R", journalled)
    with lab.mounted(source, read_only=True) as tree:
        assert "j" in call("lsattr", "-d", tree / name).split()[0]
    trial = lab.image("trial.img", 16 * MIB)
    lab.make(trial, None, "mke2fs", "-q", "-t", "ext4")
    with lab.mounted(trial) as tree:
        (tree / "x").write_text("x")
        call("chattr", "+j", tree / "x", ok=(0, 1))
        able = "j" in call("lsattr", "-d", tree / "x").split()[0]
    if able:
        lab.bsync(source, target)
        assert_same_tree(lab, source, target)
        assert "0 files, 0 bytes" in lab.bsync(source, target).out
    else:
        run = lab.bsync(source, target, status=5)
        assert f"{name}: its attributes cannot be set" in run.err
        assert len(run.err.splitlines()) <= 2
        assert "bsync-incomplete" in call("dumpe2fs", "-h", target)


def test_an_inherited_project_is_kept(lab: Lab) -> None:
    """The flag needs no project: kernels without quota have it too."""
    source, target = made(lab, 32 * MIB, "-t ext4", ""), lab.image("target.img", 32 * MIB)
    with lab.mounted(source) as tree:
        call("chattr", "+P", tree / "a")
    lab.bsync(source, target)
    assert_same_tree(lab, source, target)
    with lab.mounted(target, read_only=True) as tree:
        assert "P" in call("lsattr", "-d", tree / "a").split()[0]
    assert "0 files, 0 bytes" in lab.bsync(source, target).out


QUOTAS = ("quota", "quota,project -E quotatype=usrquota:grpquota:prjquota", "project")


def writable(lab: Lab, *options: str) -> bool:
    """Whether the kernel mounts such a filesystem for writing."""
    image = lab.image("trial.img", 8 * MIB)
    lab.make(image, None, "mke2fs", "-q", "-F", "-t", "ext4", *options)
    (lab.folder / "trial").mkdir()
    with lab.attached(image) as device:
        call("mount", "-t", "ext4", device, lab.folder / "trial", ok=(0, 32))
        mounted = os.path.ismount(lab.folder / "trial")
        if mounted:
            call("umount", lab.folder / "trial")
    return mounted


@pytest.mark.parametrize("features", QUOTAS)
def test_quota_is_kept_or_refused_beforehand(lab: Lab, features: str) -> None:
    """A kernel without quota reads such a filesystem, and cannot write its mirror."""
    source = made(lab, 32 * MIB, f"-t ext4 -O {features}", "")
    with lab.attached(source) as device:
        call("e2fsck", "-f", "-p", device, ok=(0, 1))  # mke2fs -d does not count what it copies
    target = lab.image("target.img", 32 * MIB)
    if writable(lab, "-O", *features.split()):
        if "project" in features:
            with lab.mounted(source) as tree:
                call("chattr", "-p", "77", "+P", tree / "a")
                (tree / "a" / "inherits").write_text("x")
        lab.bsync(source, target)
        assert_same_tree(lab, source, target)
        assert_kept(header(lab, source), header(lab, target))
        assert "0 files, 0 bytes" in lab.bsync(source, target).out
    else:
        run = lab.bsync(source, target, status=4)
        assert "quota" in run.err
        assert "--engine raw" in run.err
        assert not target.read_bytes().strip(b"\0"), "written to before it was known to be possible"
        lab.bsync("--engine", "raw", source, target)
        assert target.read_bytes() == source.read_bytes()
    lab.assert_clean(target)


@pytest.mark.parametrize("size", [8192, 65536])
def test_blocks_that_few_kernels_mount_are_refused_by_files(lab: Lab, size: int) -> None:
    source, target = made(lab, 16 * MIB, f"-F -t ext4 -b {size}", ""), lab.image("t.img", 16 * MIB)
    if writable(lab, "-b", str(size)):
        lab.bsync("--engine", "files", source, target)
        return
    refused = lab.bsync("--engine", "files", source, target, status=4).err
    assert f"blocks of {size // 1024} KiB, and this kernel cannot mount" in refused
    assert not target.read_bytes().strip(b"\0")
