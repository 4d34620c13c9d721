# SPDX-License-Identifier: GPL-2.0-only
"""Everything that a tree may hold, compared by means that bsync does not use."""

from __future__ import annotations

import os
import re
import socket
import stat
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
from lab import MIB, Lab, call
from trees import CHATTR, assert_same_tree, facts, set_flags

pytestmark = pytest.mark.engine("files")

GIB = 1 << 30
EVERYTHING = ("mke2fs", "-q", "-t", "ext4", "-b", "4096", "-I", "256")


def links(top: Path) -> None:
    (top / "folder").mkdir()
    (top / "one").write_text("linked")
    os.link(top / "one", top / "two")
    os.link(top / "one", top / "folder" / "three")
    (top / "symlink").symlink_to("one")
    os.link(top / "symlink", top / "folder" / "linked-symlink", follow_symlinks=False)
    os.mkfifo(top / "fifo")
    os.link(top / "fifo", top / "linked-fifo")
    os.mknod(top / "node", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.link(top / "node", top / "linked-node")
    (top / "same-1").write_text("same")
    (top / "same-2").write_text("same")


def special(top: Path) -> None:
    os.mknod(top / "block", stat.S_IFBLK | 0o660, os.makedev(259, 70000))
    os.mknod(top / "character", stat.S_IFCHR | 0o640, os.makedev(4095, 1048575))
    os.mknod(top / "zero", stat.S_IFCHR, os.makedev(0, 0))
    os.mkfifo(top / "fifo", 0o622)
    where = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(top)  # a socket's name has at most 108 bytes
        server.bind("socket")
        os.chdir(where)
    os.chown(top / "block", 1, 6)
    for target in ("zero", "/etc/passwd", "missing", "../..", "t" * 4000, "a\nb"):
        (top / f"symlink-{len(target)}").symlink_to(target)
    os.symlink(b"\xff\xfe", os.fsencode(top / "symlink-bytes"))
    os.lchown(top / "symlink-4", 70000, 3)


def owners(top: Path) -> None:
    for number, (user, group, mode) in enumerate((
        (0, 0, 0o000), (65534, 65534, 0o777), (65536, 65537, 0o4755), (100_000, 0, 0o2711),
        (4_294_967_290, 4_294_967_289, 0o6750), (1000, 100_001, 0o7777), (1, 2, 0o1644),
    )):  # fmt: skip
        for path in (top / f"file-{number}", top / f"folder-{number}"):
            path.mkdir() if "folder" in path.name else path.write_text("x")
            os.chown(path, user, group)
            path.chmod(mode)


def times(top: Path) -> None:
    for number, when in enumerate((
        0, 1, 999_999_999, 10**18 + 123_456_789, -1, -(10**18) // 2 - 7, (1 << 31) * 10**9 + 5,
        (1 << 33) * 10**9 + 999_999_999, 1_700_000_000_000_000_001,
    )):  # fmt: skip
        (top / f"file-{number}").write_text("x")
        (top / f"folder-{number}").mkdir()
        (top / f"symlink-{number}").symlink_to("x")
        os.mkfifo(top / f"fifo-{number}")
        for kind in ("file", "folder", "symlink", "fifo"):
            path = top / f"{kind}-{number}"
            os.utime(path, ns=(when // 2, when), follow_symlinks=False)


def attributes(top: Path) -> None:
    (top / "folder").mkdir()
    (top / "file").write_text("x")
    (top / "symlink").symlink_to("file")
    os.mkfifo(top / "fifo")
    os.mknod(top / "node", stat.S_IFCHR, os.makedev(1, 3))
    for name in ("file", "folder", "."):
        os.setxattr(top / name, "user.empty", b"")
        os.setxattr(top / name, "user.bytes", bytes(range(256)))
        os.setxattr(top / name, "user." + "n" * 249, b"long name")
        os.setxattr(top / name, "user.rsync.%stat", b"100644 0,0 0:0")
        os.setxattr(top / name, "user.rsync.other", b"1")
    for name in ("file", "folder", "symlink", "fifo", "node"):
        os.setxattr(top / name, "trusted.mine", b"\0\xff", follow_symlinks=False)
        os.setxattr(top / name, "security.mine", b"label\0", follow_symlinks=False)
    os.setxattr(top / "file", "user.large", bytes(3000))


def acls(top: Path) -> None:
    (top / "file").write_text("x")
    (top / "folder").mkdir()
    call("setfacl", "-m", "u:70000:rw,g:5:r,m::r", top / "file")
    call("setfacl", "-m", "u:8:rwx", top / "folder")
    call("setfacl", "-d", "-m", "u:9:rwx,g:70001:rx,o::-", top / "folder")
    (top / "folder" / "inherits").write_text("x")
    (top / "folder" / "below").mkdir()
    (top / "setgid").mkdir()
    (top / "setgid").chmod(0o2775)
    call("setfacl", "-d", "-m", "g:7:rwx", top / "setgid")
    call("setfacl", "-m", "u:3:x", top)


def capabilities(top: Path) -> None:
    for name, value in (("a", "cap_net_raw+ep"), ("b", "cap_setuid,cap_sys_admin=eip")):
        (top / name).write_bytes(b"\x7fELF")
        call("setcap", value, top / name)
    (top / "c").write_bytes(b"x")
    os.setxattr(  # version 3, with a root user of a namespace: struct vfs_ns_cap_data
        top / "c", "security.capability", struct.pack("<6I", 0x03000001, 0x2000, 0, 0, 0, 100000)
    )
    os.chown(top / "c", 0, 5)


def names(top: Path) -> None:
    for name in (b"\xff\xfe\x80", b"n" * 255, "ü".encode() * 127, b"new\nline", b"\x01\x7f\\", b" ",
                 b"-rf", b"*", b"a\tb ", b"..x", b"...", b"#b#", b"%n%i", b"~", "\u202e".encode(),
                 b"[x]", b"back\\\\", b".rsync-filter", b".~tmp~", b"'\"$`"):  # fmt: skip
        path = os.path.join(os.fsencode(top), name)
        os.mkdir(path)
        with open(os.path.join(path, name), "wb") as file:
            file.write(name)
        os.symlink(name, os.path.join(path, b"to"))
        set_flags(os.path.join(path, name), "di")


def deep(top: Path) -> None:
    """A path of 3,600 bytes, and one of 600 levels."""
    for name, levels in (("d" * 200, 18), ("e", 600)):
        folder = top
        for _ in range(levels):
            folder = folder / name
            folder.mkdir()
        (folder / "bottom").write_text("found")


def sparse(top: Path) -> None:
    for name, size, data in (
        ("over-4-gib", 5 * GIB + 77, ((0, b"first"), (5 * GIB + 70, b"last ..")) ),
        ("over-2-gib", 2 * GIB + 1, ((GIB, os.urandom(100_000)),)),
        ("all-hole", 3 * GIB, ()),
        ("hole-at-end", 40 * MIB, ((0, os.urandom(5000)),)),
        ("hole-first", 40 * MIB, ((40 * MIB - 1, b"x"),)),
        ("comb", 80 * MIB, tuple((at * MIB, os.urandom(4096)) for at in range(80))),
        ("small", 100_000, ((50_000, b"x"),)),
        ("odd", 3 * MIB + 1, ((MIB + 333, os.urandom(5000)),)),
    ):  # fmt: skip
        with (top / name).open("wb") as file:
            file.truncate(size)
            for at, bytes_ in data:
                file.seek(at)
                file.write(bytes_)
    os.link(top / "over-2-gib", top / "linked-over-2-gib")
    (top / "folder").mkdir()
    os.link(top / "over-4-gib", top / "folder" / "linked")
    os.chown(top / "all-hole", 1000, 70000)
    os.setxattr(top / "all-hole", "user.is", b"kept")
    with (top / "reserved").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 2 * MIB)
    # ext2 and ext3 cannot reserve beyond the end
    call("fallocate", "--keep-size", "--length", "1M", top / "small", ok=(0, 1))


def flags(top: Path) -> None:
    for letters in (*CHATTR, "ia", "iAd", "sucSD", "dt"):
        for path in (top / f"file-{letters}", top / f"folder-{letters}"):
            path.mkdir() if "folder" in path.name else path.write_text(letters)
            if path.is_dir():
                (path / "inside").write_text("x")
            try:
                set_flags(path, letters)
            except OSError:  # for folders only, j needs CAP_SYS_RESOURCE, P the project feature
                assert set(letters) & set("jDTxP")
    (top / "nodump").mkdir()
    set_flags(top / "nodump", "dA")
    (top / "nodump" / "inherits").write_text("x")
    (top / "nodump" / "does-not").write_text("x")
    set_flags(top / "nodump" / "does-not", "")
    os.link(top / "file-A", top / "linked-A")


KEPT: tuple[Callable[[Path], None], ...] = (
    links, special, owners, times, attributes, acls, capabilities, names, deep, sparse, flags,
)  # fmt: skip


@pytest.mark.parametrize("fill", KEPT, ids=[fill.__name__ for fill in KEPT])
def test_everything_is_kept(lab: Lab, fill: Callable[[Path], None]) -> None:
    source, target = lab.image("source.img", 48 * MIB), lab.image("target.img", 64 * MIB)
    lab.make(source, None, *EVERYTHING)
    with lab.mounted(source) as tree:
        os.rmdir(tree / "lost+found")
        fill(tree)
        assert len(facts(tree)) > 2
    lab.bsync(source, target)
    assert_same_tree(lab, source, target)
    assert "done: 0 files, 0 bytes transferred, " in lab.bsync(source, target).out
    assert_same_tree(lab, source, target)
    assert "identical" in lab.bsync("verify", source, target).out
    lab.assert_clean(target)


@pytest.mark.parametrize("kind", ["ext2", "ext3"])
def test_older_kinds_keep_it_too(lab: Lab, kind: str) -> None:
    source, target = lab.image("source.img", 48 * MIB), lab.image("target.img", 48 * MIB)
    lab.make(source, None, "mke2fs", "-q", "-t", kind, "-b", "4096", "-I", "256")
    with lab.mounted(source) as tree:
        for fill in (links, special, owners, attributes, acls, capabilities, names, sparse):
            (tree / fill.__name__).mkdir()
            fill(tree / fill.__name__)
    lab.bsync(source, target)
    assert_same_tree(lab, source, target)
    assert "done: 0 files, 0 bytes transferred, " in lab.bsync(source, target).out
    lab.assert_clean(target)


def test_as_the_systems_own_tools_see_it(lab: Lab) -> None:
    """getcap, getfacl and lsattr, in their own words."""
    source, target = lab.image("source.img", 32 * MIB), lab.image("target.img", 32 * MIB)
    lab.make(source, None, *EVERYTHING)
    with lab.mounted(source) as tree:
        for fill in (acls, capabilities, flags):
            (tree / fill.__name__).mkdir()
            fill(tree / fill.__name__)
    lab.bsync(source, target)
    seen = []
    for image in (source, target):
        with lab.mounted(image, read_only=True) as tree:
            commands = (("getcap", "-r"), ("getfacl", "-R", "-n", "-p"), ("lsattr", "-R", "-a"))
            text = "".join(call(*command, tree) for command in commands)
            seen.append(sorted(text.replace(str(tree), "").splitlines()))
    assert any("cap_net_raw=ep" in line for line in seen[0])
    assert any(re.match(r"\S*ia\S* /flags/file-ia$", line) for line in seen[0])
    assert "default:user:9:rwx" in seen[0]
    assert seen[0] == seen[1]


def test_root_directory_itself(lab: Lab) -> None:
    source, target = lab.image("source.img", 16 * MIB), lab.image("target.img", 16 * MIB)
    lab.make(source, None, *EVERYTHING)
    with lab.mounted(source) as tree:
        os.chown(tree, 5, 70000)
        tree.chmod(0o3711)
        os.setxattr(tree, "trusted.root", b"x")
        call("setfacl", "-d", "-m", "u:9:rwx", tree)
        os.utime(tree, ns=(1, 10**18 + 1))
        set_flags(tree, "dAi")
    lab.bsync(source, target)
    assert_same_tree(lab, source, target)
    with lab.mounted(source) as tree:
        set_flags(tree, "")
        (tree / "new").write_text("new")
        set_flags(tree, "ia")
    assert "done: 1 file, 3 bytes" in lab.bsync(source, target).out
    assert_same_tree(lab, source, target)


def test_large_attributes_in_inodes_of_their_own(lab: Lab) -> None:
    source, target = lab.image("source.img", 16 * MIB), lab.image("target.img", 16 * MIB)
    lab.make(source, None, *EVERYTHING, "-O", "ea_inode")
    with lab.mounted(source) as tree:
        (tree / "file").write_text("x")
        for number in range(5):
            os.setxattr(tree / "file", f"user.large-{number}", os.urandom(20_000))
        os.setxattr(tree, "user.large", os.urandom(60_000))
    lab.bsync(source, target)
    assert_same_tree(lab, source, target)
    assert "0 files, 0 bytes" in lab.bsync(source, target).out
    lab.assert_clean(target)


def test_path_that_no_program_can_name_is_said(lab: Lab) -> None:
    """A path of more than 4,095 bytes can be made step by step; rsync cannot copy it."""
    source, target = lab.image("source.img", 24 * MIB), lab.image("target.img", 24 * MIB)
    lab.make(source, None, *EVERYTHING)
    with lab.mounted(source) as tree:
        folder = os.open(tree, os.O_RDONLY)
        for _ in range(21):
            os.mkdir("d" * 200, dir_fd=folder)
            outer, folder = folder, os.open("d" * 200, os.O_RDONLY, dir_fd=folder)
            os.close(outer)
        os.close(folder)
    run = lab.bsync(source, target, status=5)
    assert "dddd" in run.err
    assert "bsync-incomplete" in lab.bsync("inspect", target).out


def test_inline_data(lab: Lab) -> None:
    source, target = lab.image("source.img", 16 * MIB), lab.image("target.img", 16 * MIB)
    lab.make(source, None, *EVERYTHING, "-O", "inline_data")
    with lab.mounted(source) as tree:
        for number in range(0, 160, 10):
            (tree / f"file-{number}").write_bytes(os.urandom(number))
            (tree / f"folder-{number}").mkdir()
            (tree / f"folder-{number}" / ("n" * (number + 1))).symlink_to("x" * (number + 1))
        set_flags(tree / "file-20", "ia")
        with (tree / "file-30").open("ab") as file:
            file.truncate(GIB)
    lab.bsync(source, target)
    assert_same_tree(lab, source, target)
    assert "0 files, 0 bytes" in lab.bsync(source, target).out
    lab.assert_clean(target)
