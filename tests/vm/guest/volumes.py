# SPDX-License-Identifier: GPL-2.0-only
"""LVM for guest tests: volume groups, classic and thin volumes.

    with volume_group(rig.disk(0)) as group:
        origin = group.linear("data", "200M")           # /dev/vg0/data
        pool = group.pool("pool", "300M")
        thin = group.thin(pool, "root", "1G")

At the end of the block all of it is removed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from lab import call


@dataclass(frozen=True)
class VolumeGroup:
    """A volume group of the test's own."""

    name: str

    def linear(self, name: str, size: str) -> str:
        """A classic volume; its path.  Sizes are LVM's words: 200M, 1G."""
        _lvm("lvcreate", "-W", "y", "-L", size, "-n", name, self.name)
        return self.path(name)

    def pool(self, name: str, size: str) -> str:
        """A thin pool; its name."""
        _lvm("lvcreate", "--type", "thin-pool", "-L", size, "-n", name, self.name)
        return name

    def thin(self, pool: str, name: str, size: str) -> str:
        """A thin volume, of a size that the pool need not have; its path."""
        _lvm("lvcreate", "--thin", "-V", size, "-n", name, f"{self.name}/{pool}")
        return self.path(name)

    def path(self, volume: str) -> str:
        return f"/dev/{self.name}/{volume}"

    def volumes(self) -> dict[str, tuple[str, ...]]:
        """Every volume's name, active or not, and its tags."""
        command = ("lvs", "--noheadings", "--separator", "=", "-o", "lv_name,lv_tags", self.name)
        rows = (line.strip().split("=") for line in call(*command).splitlines())
        return {name: tuple(filter(None, tags.split(","))) for name, tags in rows}


@contextlib.contextmanager
def volume_group(*devices: str, name: str = "vg0") -> Iterator[VolumeGroup]:
    """A volume group on `devices`, removed with everything in it at the end."""
    _lvm("vgcreate", name, *devices)
    try:
        yield VolumeGroup(name)
    finally:
        call("udevadm", "settle")
        _lvm("vgremove", "--force", "--force", name)
        _lvm("pvremove", *devices)


def activated(name: str = "vg0") -> VolumeGroup:
    """The group that an earlier life of this machine left, its volumes active: in the second
    half of a test whose power was cut.  Nobody removes it; the machine ends after the test."""
    _lvm("vgchange", "--activate", "y", name)
    return VolumeGroup(name)


def _lvm(*words: str) -> None:
    command, *rest = words
    call(command, "--quiet", "--quiet", "--yes", *rest)
    call("udevadm", "settle")
