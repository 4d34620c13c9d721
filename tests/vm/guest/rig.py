# SPDX-License-Identifier: GPL-2.0-only
"""What a guest test works with: a `Lab` of the host tier, on a machine that has everything.

All of the lab's helpers are here (images, tables, loop devices, mounts, `bsync`, `faulty`),
and more that need a kernel with virtual disks, device-mapper and iSCSI.  The guest is ours
alone: bsync uses its real /run/bsync, and after a test the machine has to be as before it.

Logical volumes are made by `volumes`, iSCSI targets by `targets`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

import targets
from lab import Lab, Part, Started, call, wait_until

TAG: Final = "bsync"
"""Every tag that bsync gives a logical volume begins so."""

Footprint = dict[str, set[str]]


def footprint() -> Footprint:
    """What this machine holds: everything that a run could leave behind."""
    return {
        "loop": _read("/sys/block/loop*/loop/backing_file"),
        "device-mapper": _read("/sys/block/dm-*/dm/name"),
        "iSCSI session": _read("/sys/class/iscsi_session/session*/targetname"),
        "iSCSI record": {str(path) for path in Path("/etc/iscsi/nodes").glob("*/*")},
        "mount": {point for point in _mount_points() if not point.startswith("/sys/")},
        "swap": {row.split()[0] for row in Path("/proc/swaps").read_text().splitlines()[1:]},
        "ledger": {str(path) for path in Path("/run/bsync").glob("*")},
    }


def _read(pattern: str) -> set[str]:
    return {path.read_text().strip() for path in Path("/").glob(pattern.lstrip("/"))}


def _mount_points() -> Iterator[str]:
    for row in Path("/proc/self/mountinfo").read_text().splitlines():
        yield row.split()[4]


class Rig(Lab):
    """The bench of one test."""

    def __init__(self, folder: Path, engine: str = "") -> None:
        super().__init__(folder, engine)
        self.runtime = Path("/run/bsync")
        del self.environment["BSYNC_RUNTIME_DIR"]
        self._before = footprint()
        self._borrowed: set[str] = set()  # sessions that the test has opened itself

    # --- disks ----------------------------------------------------------------------------

    def disk(self, number: int) -> str:
        """The virtual disk with the serial disk0, disk1 or disk2: of 1 GiB, and blank.  (disk3
        is a bootable Debian, for the modules that `test_vm` gives one: `inherited_disk(3)`.)

        (Not in the second half of a test whose power was cut: see `inherited_disk`.)
        """
        device = self.inherited_disk(number)
        call("wipefs", "--all", "--quiet", "--force", device)
        call("blkdiscard", "--force", device)
        call("udevadm", "settle")
        return device

    def inherited_disk(self, number: int) -> str:
        """The same, with all that is on it."""
        for path in Path("/sys/block").glob("vd*/serial"):
            if path.read_text().strip() == f"disk{number}":
                return f"/dev/{path.parent.name}"
        raise AssertionError(f"this guest has no disk{number}")

    def boots(self, number: int) -> None:
        """Have this disk booted, on the host, once this module's tests have passed."""
        with Path("/out/boots").open("a") as file:
            file.write(f"{number}\n")

    def put(self, image: Path, device: str) -> None:
        """Write an image to the beginning of a block device."""
        call("dd", f"if={image}", f"of={device}", "bs=4M", "conv=fsync", "status=none")

    def table_on(self, device: str, script: str) -> list[Part]:
        """Partition a block device by an sfdisk script; the kernel's nodes are there then."""
        parts = self.table(Path(device), script)
        call("udevadm", "settle")
        return parts

    @contextlib.contextmanager
    def scanned(self, image: Path) -> Iterator[str]:
        """A loop device over the image whose partitions have nodes of the kernel's."""
        device = call("losetup", "--find", "--show", "--partscan", image).strip()
        try:
            call("udevadm", "settle")
            yield device
        finally:
            call("losetup", "--detach", device)
            call("udevadm", "settle")

    def reread(self, device: str) -> None:
        """Have the kernel read the table, as soon as udev has looked at what was written."""
        call("udevadm", "settle")

        def done() -> bool:
            words = ("blockdev", "--rereadpt", device)
            return subprocess.run(words, check=False, capture_output=True).returncode == 0

        wait_until(done, lambda: f"{device} stays busy")
        call("udevadm", "settle")

    def nodes(self, device: str) -> dict[str, tuple[int, int]]:
        """The kernel's partition nodes of a disk: start and size in bytes, by path."""
        folders = Path(f"/sys/block/{Path(device).name}").glob("*/partition")
        found = {}
        for folder in (path.parent for path in folders):
            start, size = (int((folder / name).read_text()) * 512 for name in ("start", "size"))
            found[f"/dev/{folder.name}"] = (start, size)
        return dict(sorted(found.items()))

    @contextlib.contextmanager
    def mounted_device(self, device: str, options: str = "rw") -> Iterator[Path]:
        """A block device's filesystem, mounted by the device's own name."""
        target = self.folder / f"mnt-{device.replace('/', '-')}"
        target.mkdir()
        call("mount", "-o", options, device, target)
        try:
            yield target
        finally:
            call("umount", target)
            target.rmdir()

    # --- iSCSI ----------------------------------------------------------------------------

    @contextlib.contextmanager
    def logged_in(self, target: targets.Target) -> Iterator[dict[int, str]]:
        """A session of the test's own: its disks by LUN.  bsync may borrow it."""
        targets.start_initiator()
        self._borrowed.add(target.iqn)
        targets.log_in(target)
        try:
            yield targets.session_disks(target.iqn)
        finally:
            targets.log_out(target)
            self._borrowed.discard(target.iqn)

    # --- bsync, stopped or cut off --------------------------------------------------------

    @contextlib.contextmanager
    def stopped(self, point: str, count: int, *words: str | Path) -> Iterator[Started]:
        """bsync, stopped the `count`th time that it comes to a point of the host tier's
        `faults`; continued and waited for at the end of the block."""
        faults = "/src/tests/host/faults.py"
        child = self.start(*words, launcher=(faults, point, str(count), "STOP"))
        try:
            change = os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            stopped = change is not None and change.si_code == os.CLD_STOPPED
            assert stopped, f"it never came to {point} {count}: {_ended(child)}"
            yield child
        finally:
            with contextlib.suppress(ProcessLookupError):
                child.send_signal(signal.SIGCONT)
            child.communicate()

    def assert_refused(self, *words: str | Path, saying: str, status: int = 3) -> None:
        """bsync refuses in one line that has `saying` in it."""
        said = self.bsync(*words, status=status).err
        assert said.startswith("bsync: "), said
        assert saying in said.splitlines()[0], said

    def cut_power(self) -> NoReturn:
        """The machine ends here and now: for a test_before_… of a module cut_*.py."""
        print(os.environ["BSYNC_POWER_CUT"], flush=True)
        signal.pause()
        sys.exit("the power is still on")

    # --- what must hold -------------------------------------------------------------------

    def left(self) -> list[str]:
        """Everything of bsync's that is not released yet; what the test itself holds is not."""
        sessions = footprint()["iSCSI session"] - self._borrowed
        found = [f"iSCSI session {name}" for name in sessions]
        found += [f"logical volume {name}" for name in _tagged_volumes()]
        others = [what for what in super().left() if "dmeventd" not in what]  # LVM's own daemon
        return found + others

    def assert_nothing_left(self, seconds: float = 30) -> None:
        """The machine is as it was when the test began, or soon will be."""
        call("udevadm", "settle")
        story = f"left behind: {self._additions()}"
        wait_until(lambda: not self._additions(), lambda: story, seconds)
        left = self.left()
        assert not left, f"left behind: {left}"

    def assert_mirror(self, source: str | Path, target: str | Path) -> None:
        """Both sides are equal, and another run finds nothing to do."""
        self.bsync("verify", source, target)
        assert "done: 0 files, 0 bytes transferred" in self.bsync(source, target).out

    def assert_clean_device(self, device: str) -> None:
        """e2fsck -fn finds nothing."""
        call("e2fsck", "-f", "-n", device)

    def _additions(self) -> list[str]:
        now = footprint()
        return [f"{kind} {name}" for kind in now for name in now[kind] - self._before[kind]]


def _ended(child: Started) -> tuple[int, str, str]:
    out, err = child.communicate()
    return child.returncode, out, err


def _tagged_volumes() -> list[str]:
    """Logical volumes, active or not, with a tag of bsync's."""
    if not Path("/sys/module/dm_mod").exists():
        return []
    command = ("lvs", "--noheadings", "--separator", "=", "-o", "lv_full_name,lv_tags")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rows = (line.strip().split("=") for line in done.stdout.splitlines())
    return [name for name, tags in rows if any(t.startswith(TAG) for t in tags.split(","))]
