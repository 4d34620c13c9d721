# SPDX-License-Identifier: GPL-2.0-only
"""The guest of the vm tier: Debian 12 and its stock kernel, made once and kept.

It has to be made as root, for the files to belong to root; no mount and no loop device is
needed.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import initramfs
from kept import kept

_SUITE: Final = "bookworm"
_SIZE: Final = "6G"  # of the root, sparse: the images of the tests are made there, too
_PACKAGES: Final = (
    *("linux-image-amd64", "busybox-static", "kmod", "udev", "systemd"),
    *("python3", "python3-pytest", "python3-click", "python3-numpy", "python3-rich"),
    *("lvm2", "thin-provisioning-tools", "dmsetup"),
    *("tgt", "open-iscsi", "qemu-utils"),
    *("qemu-system-common", "qemu-block-extra", "libiscsi7", "libnbd0"),
    *("e2fsprogs", "reiserfsprogs", "xfsprogs", "btrfs-progs", "dosfstools"),
    *("fdisk", "gdisk", "parted", "mount", "util-linux"),
    *("rsync", "acl", "attr", "libcap2-bin", "iproute2", "procps", "psmisc"),
)
_UNWANTED: Final = ("doc", "man", "locale", "info")
# Of the modules only these folders stay: modprobe reads shorter lists, and copies are smaller.
_KINDS: Final = ("arch", "block", "crypto", "fs", "lib", "mm", "net/9p", "net/core", "net/ipv4")
_DRIVERS: Final = ("block", "char", "md", "scsi", "target", "uio", "virtio")


@dataclass(frozen=True)
class GuestImage:
    """What QEMU starts the guest from."""

    kernel: Path
    initramfs: Path
    root: Path


def guest_image() -> GuestImage:
    """The guest's files, read-only; built if they are absent."""
    recipe = (Path(__file__), Path(initramfs.__file__))
    folder = kept("guest", recipe, _build)
    return GuestImage(folder / "vmlinux", folder / "initramfs", folder / "root.img")


def _build(work: Path, result: Path) -> None:
    root = work / "root"
    _make_system(root)
    (kernel,) = (root / "boot").glob("vmlinuz-*")
    version = kernel.name.removeprefix("vmlinuz-")
    _thin_out(root / "lib/modules" / version)
    _run("chroot", str(root), "depmod", version)
    (result / "vmlinux").write_bytes(initramfs.plain_kernel(kernel))
    (result / "initramfs").write_bytes(initramfs.initramfs(root, version))
    for path in (root / "boot").iterdir():
        path.unlink()
    # The journal protects nothing here: the root is thrown away after every run.
    image = str(result / "root.img")
    _run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", str(root), image, _SIZE)
    for path in result.iterdir():
        path.chmod(0o444)


def _make_system(root: Path) -> None:
    _run(
        # A process space of its own: all of the build ends if its run is killed.
        *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        *("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase"),
        f"--include={','.join(_PACKAGES)}",
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNWANTED),
        _SUITE,
        str(root),
    )


def _thin_out(modules: Path) -> None:
    kernel = modules / "kernel"
    wanted = [kernel / name for name in _KINDS]
    wanted += [kernel / "drivers" / name for name in _DRIVERS]
    for path in sorted(kernel.rglob("*.ko")):
        if not any(path.is_relative_to(folder) for folder in wanted):
            path.unlink()


def _run(*command: str) -> None:
    """Run a tool; if it fails, say what it said."""
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    environment["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    environment["INITRD"] = "No"  # the kernel's package makes none: ours is smaller
    done = subprocess.run(
        ("setpriv", "--pdeathsig", "KILL", *command),  # ends with the run that wants it
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with status {done.returncode}:\n{done.stdout}")
