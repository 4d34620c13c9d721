# SPDX-License-Identifier: GPL-2.0-only
"""Who has a block device in use: by lsblk(8), which knows mounts, swap and what is stacked."""

from __future__ import annotations

import json
import os
import re

from bsync.errors import BsyncError, Unavailable
from bsync.run import run

UNMOUNT = "unmount it first; a running system is cloned through an LVM snapshot"
_SINGLE_HYPHEN = re.compile(r"(?<!-)-(?!-)")  # between a group and a volume in a map's name

Row = dict[str, object]


def user_of(path: str) -> tuple[str, str]:
    """Who uses the device at `path`, and how to end that."""
    rows = rows_above(path, "PATH,NAME,TYPE,MOUNTPOINTS")
    for row in rows:
        points = row.get("mountpoints")
        for point in points if isinstance(points, list) else []:
            if point == "[SWAP]":
                return f"{row['path']} is in use as swap", f"swapoff {row['path']}"
            if point:
                return f"{row['path']} is mounted on {point}", UNMOUNT
    above = [row for row in rows if os.path.realpath(str(row["path"])) != os.path.realpath(path)]
    for row in reversed(above):  # what stands on top has to go first
        kind, hint = _stacked(str(row.get("type")), str(row["path"]), str(row.get("name")), path)
        if kind:
            return f"{row['path']}, {kind}, stands on it", hint
    return "mounted, or held by another program", UNMOUNT


def _stacked(kind: str, path: str, name: str, below: str) -> tuple[str, str]:
    """What a device of lsblk's TYPE is, and how it is taken down; empty for what holds nothing."""
    if kind == "lvm":
        group = _SINGLE_HYPHEN.split(name)[0].replace("--", "-")
        return "a logical volume", f"vgchange -an {group}"
    if kind.startswith(("raid", "linear", "md")):
        return "an array", f"mdadm --stop {path}"
    mapped = path.startswith("/dev/mapper/")
    known = {
        "mpath": ("a multipath map", f"multipath -f {name}; or name {path} instead"),
        "crypt": ("an encrypted volume", f"cryptsetup close {name}"),
        "part": ("a partition by kpartx", f"kpartx -d {below}"),
        "dm": ("a device-mapper map", f"dmsetup remove {name}"),
    }
    return known.get(kind, ("", "")) if mapped else ("", "")


def rows_above(path: str, columns: str) -> list[Row]:
    """lsblk's rows for `path` and what stands on it; none where it cannot say."""
    try:
        result = run("lsblk", "--json", "--list", "--output", columns, path, failure=Unavailable)
        rows = json.loads(result.output)["blockdevices"]
        return [row for row in rows if isinstance(row, dict)]
    except (BsyncError, ValueError, KeyError):
        return []
