# SPDX-License-Identifier: GPL-2.0-only
"""What the figures were measured on, without anything that names the machine."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from benchlib.proc import CommandFailed, find_program, run

VERSION_COMMANDS = (
    ("rsync", "--version"),
    ("cp", "--version"),
    ("dd", "--version"),
    ("mkfs.ext4", "-V"),
    ("partclone.ext4", "--version"),
    ("fsarchiver", "-V"),
    ("tgtd", "--version"),
    ("qemu-storage-daemon", "--version"),
    ("losetup", "--version"),
)
MISSING = "missing"


@dataclass(frozen=True)
class Machine:
    """Hardware, kernel and tools."""

    processor: str
    cores: int
    memory_gib: float
    kernel: str
    file_system: str
    python: str
    tools: dict[str, str]


def describe(work: Path, bsync: str) -> Machine:
    """The machine as far as it bears on the figures."""
    tools = {command[0]: _version(command) for command in VERSION_COMMANDS}
    return Machine(
        processor=_field(Path("/proc/cpuinfo"), "model name") or platform.machine(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(memory_bytes("MemTotal") / 2**30, 1),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        file_system=_file_system(work),
        python=platform.python_version(),
        tools={"bsync": _version((bsync, "--version")), **tools},
    )


def memory_bytes(name: str) -> int:
    """What /proc/meminfo says under this name, in bytes (proc_meminfo(5)); 0: nothing."""
    words = _field(Path("/proc/meminfo"), name).split()
    return int(words[0]) << 10 if words else 0


def _field(path: Path, name: str) -> str:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def _file_system(work: Path) -> str:
    return run(["findmnt", "-n", "-o", "FSTYPE", "--target", work]).output.strip()


def _version(command: tuple[str, ...]) -> str:
    if find_program(command[0]) is None:
        return MISSING
    try:
        lines = run(command).output.strip().splitlines()
    except CommandFailed:
        return "unknown"
    return " ".join(lines[0].split()) if lines else "unknown"
