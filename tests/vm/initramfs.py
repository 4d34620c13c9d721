# SPDX-License-Identifier: GPL-2.0-only
"""A kernel and an initramfs that come up in seconds under emulation.

The kernel is given to QEMU as the plain ELF inside Debian's bzImage: unpacking that takes
longer than all the rest of the boot.  The initramfs holds a busybox and the few modules that
the guest's root needs, and makes every mount itself.
"""

from __future__ import annotations

import lzma
import re
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

_MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "9pnet_virtio", "9p", "overlay", "ext4")
_SLOW_TWIN = "crc32c-intel"  # of crc32c-generic; the emulated processor has no such instruction
_ELF, _XZ = b"\x7fELF", b"\xfd7zXZ\0"
_SIGNED = b"~Module signature appended~\n"
_SIGNATURE_FOOTER = 12  # bytes of struct module_signature, linux/module_signature.h

# The tree is seen through an overlay: Python may keep its bytecode there, and nothing the
# guest does reaches the tree itself.
_INIT = """\
#!/bin/busybox sh
export PATH=/bin
/bin/busybox mkdir -p /proc /sys /dev /root
/bin/busybox mount -t proc proc /proc
/bin/busybox --install -s /bin
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
give_up() { echo "initramfs: $* failed"; dmesg | tail -20; poweroff -f; }

while read -r module; do
    insmod "/modules/$module" || give_up "insmod $module"
done < /modules/order
for serial in /sys/block/*/serial; do
    [ "$(cat "$serial")" = root ] || continue
    device=${serial%/serial}
    mount -t ext4 -o noatime "/dev/${device##*/}" /root || give_up "mounting the root"
done
cd /root
[ -d etc ] || give_up "finding the root"
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir -p run/lock run/tree/lower run/tree/upper run/tree/work out src
share() { mount -t 9p -o "trans=virtio,version=9p2000.L,msize=512000,$3" "$1" "$2"; }
share out out cache=none || give_up "mounting /out"
share src run/tree/lower ro,cache=loose || give_up "mounting /src"
layers=lowerdir=run/tree/lower,upperdir=run/tree/upper,workdir=run/tree/work
mount -t overlay -o $layers overlay src || give_up "overlaying /src"
mount --move /proc proc
mount --move /sys sys
mount --move /dev dev
mkdir -p dev/pts dev/shm
mount -t devpts -o mode=620 devpts dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
for link in fd:/proc/self/fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
    ln -sf "${link#*:}" "dev/${link%%:*}"
done
ip link set lo up
hostname guest
exec switch_root . /bin/sh /out/.start
"""


def plain_kernel(image: Path) -> bytes:
    """The ELF inside a bzImage, which the kernel's own loader would unpack."""
    data = image.read_bytes()
    for match in re.finditer(re.escape(_XZ), data):
        try:
            unpacked = lzma.LZMADecompressor().decompress(data[match.start() :])
        except lzma.LZMAError:
            continue
        if unpacked.startswith(_ELF):
            return unpacked
    raise RuntimeError(f"{image} holds no kernel packed by xz")


def initramfs(root: Path, version: str) -> bytes:
    """An initramfs for the kernel `version`, out of the Debian system in `root`."""
    modules = _modules(root, version)
    order = "".join(f"{module.name}\n" for module in modules)
    return _archive(
        [
            _Entry("bin", stat.S_IFDIR | 0o755),
            _Entry("modules", stat.S_IFDIR | 0o755),
            _Entry("bin/busybox", stat.S_IFREG | 0o755, (root / "bin/busybox").read_bytes()),
            _Entry("init", stat.S_IFREG | 0o755, _INIT.encode()),
            _Entry("modules/order", stat.S_IFREG | 0o644, order.encode()),
            *(
                _Entry(f"modules/{path.name}", stat.S_IFREG | 0o644, _unsigned(path.read_bytes()))
                for path in modules
            ),
        ]
    )


def _modules(root: Path, version: str) -> list[Path]:
    """The modules to load, each after those it needs."""
    found: dict[str, None] = {}
    for name in _MODULES:
        command = ("chroot", root, "modprobe", "-S", version, "--show-depends", name)
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows = (line.split() for line in done.stdout.splitlines())
        found |= {row[1]: None for row in rows if row[0] == "insmod"}
    return [root / path.lstrip("/") for path in found if _SLOW_TWIN not in path]


def _unsigned(module: bytes) -> bytes:
    """A module without its signature, whose check costs more than the rest of its loading."""
    if not module.endswith(_SIGNED):
        return module
    end = len(module) - len(_SIGNED)
    size = int.from_bytes(module[end - 4 : end], "big")
    return module[: end - _SIGNATURE_FOOTER - size]


@dataclass(frozen=True)
class _Entry:
    """A file or folder of the archive."""

    name: str
    mode: int
    data: bytes = b""


def _archive(entries: list[_Entry]) -> bytes:
    """A cpio archive in the format "newc" (Documentation/driver-api/early-userspace)."""
    archive = bytearray()
    for number, entry in enumerate([*entries, _Entry("TRAILER!!!", 0)], start=1):
        name = entry.name.encode() + b"\0"
        fields = (number, entry.mode, 0, 0, 1, 0, len(entry.data), 0, 0, 0, 0, len(name), 0)
        archive += b"070701" + b"".join(b"%08X" % field for field in fields)
        archive += _padded(name, len(archive)) + entry.data
        archive += bytes(-len(archive) % 4)
    return bytes(archive)


def _padded(name: bytes, offset: int) -> bytes:
    return name + bytes(-(offset + len(name)) % 4)
