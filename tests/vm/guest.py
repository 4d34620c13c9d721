# SPDX-License-Identifier: GPL-2.0-only
"""Run a command as root in a virtual machine with Debian's kernel.

In the guest, /src is this tree (what is written there is gone at the end), /out is a folder
of the host's for results, and PYTHONPATH leads to the tree: bsync is `python3 -m bsync`.
The root starts anew every time; only the `disks` keep what is written to them, so that a run
whose power is cut can be followed by another with the same disks.
"""

from __future__ import annotations

import os
import select
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from guest_image import GuestImage, guest_image

TREE: Final = Path(__file__).resolve().parents[2]
CUT: Final = -signal.SIGKILL
"""The status of a run whose power was cut."""

PYTEST: Final = (
    *("python3", "-m", "pytest", "-c", "pyproject.toml"),
    "--confcutdir=tests/vm/guest",  # the tiers' are the host's
    *("-p", "no:cacheprovider", "--basetemp=/var/tmp/tests", "--color=no"),
)
"""The guest's pytest."""

_BOOT_LIMIT: Final = 150.0  # seconds; it takes 5, or 15 while the machine is busy
_ATTEMPTS: Final = 2  # under emulation one boot in a few dozen hangs
_TAIL_LINES: Final = 60  # a kernel that dies needs most of them

# Code that lies at other addresses in every process is translated anew in each; and every page that
# is handed out would be cleared twice.
_SLIM: Final = "norandmaps init_on_alloc=0"
_KERNEL_OPTIONS: Final = (
    "console=ttyS0 loglevel=4 panic=-1 mitigations=off nopti nokaslr tsc=reliable no_timer_check"
    " random.trust_cpu=on rcupdate.rcu_expedited=1 cryptomgr.notests apparmor=0 audit=0"
    f" raid=noautodetect {_SLIM}"
)

# What every Debian has by the time that anybody logs in: loop devices, and the udev that LVM
# and iSCSI count on.
_START: Final = """\
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LANG=C.UTF-8 PYTHONPATH=/src/src PYTHONUNBUFFERED=1
touch /out/.started
modprobe loop
/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add --subsystem-match=block --subsystem-match=misc
udevadm settle --timeout=60
cd /src
{command} < /dev/null > /dev/vport0p1 2>&1
echo $? > /out/.status
sync
exec busybox poweroff -f
"""


class GuestFailed(Exception):
    """The machine did not get as far as to tell the status of its command."""

    def __init__(self, reason: str, output: str, log: str) -> None:
        super().__init__(f"{reason}\n--- output\n{output}\n{tail('console', log)}")


class _Hung(GuestFailed):
    """It did not even start the command: worth another attempt."""


@dataclass(frozen=True)
class Result:
    """How the command ended, what it wrote, and what the kernel said meanwhile."""

    status: int
    output: str
    log: str


def tail(title: str, text: str) -> str:
    """The last lines of `text` under a title, for the message of a failure."""
    return "\n".join([f"--- {title}", *text.splitlines()[-_TAIL_LINES:]])


def disk(path: Path, size: int) -> Path:
    """A blank disk for the guest: a sparse file."""
    with path.open("xb") as file:
        file.truncate(size)
    return path


def run(
    argv: Sequence[str],
    *,
    disks: Sequence[Path] = (),
    timeout: float = 600.0,
    keep: Path | None = None,
    cut_power_at: str = "",
) -> Result:
    """Run `argv` in a guest to its end, or until `cut_power_at` shows in its output.

    `disks` are raw images; in the guest their serials are disk0, disk1, ….  `keep` is the
    folder that is /out there, if what the guest writes to it shall stay.  Cutting the power
    ends the machine at once; the status then is `CUT`.  Raises `GuestFailed`.
    """
    task = _Task(argv, timeout, cut_power_at.encode())
    with tempfile.TemporaryDirectory(prefix="bsync-vm-") as folder:
        work = Path(folder)
        out = keep or work / "out"
        for _ in range(_ATTEMPTS - 1):
            try:
                return _Session(work, out, disks).run(task)
            except _Hung:
                continue
        return _Session(work, out, disks).run(task)


@dataclass(frozen=True)
class _Task:
    """What a machine is started for, and what ends it before its time."""

    argv: Sequence[str]
    timeout: float
    marker: bytes


class _Session:
    """One machine from power-on to the end."""

    def __init__(self, work: Path, out: Path, disks: Sequence[Path]) -> None:
        self._console = work / "console.log"
        self._out = out
        self._disks = disks
        self._output = b""

    def run(self, task: _Task) -> Result:
        self._out.mkdir(parents=True, exist_ok=True)
        for name in (".started", ".status"):
            (self._out / name).unlink(missing_ok=True)
        (self._out / ".start").write_text(_START.format(command=shlex.join(task.argv)))
        with _machine(self._command(guest_image())) as stream:
            cut = self._follow(stream, task)
        return Result(CUT if cut else self._status(), self._text, self._log)

    def _follow(self, stream: IO[bytes], task: _Task) -> bool:
        """Collect the output to its end; whether the marker came."""
        start = time.monotonic()
        while True:
            ready, _, _ = select.select([stream], [], [], 1.0)
            piece = os.read(stream.fileno(), 1 << 16) if ready else b""
            self._output += piece
            if task.marker and task.marker in self._output:
                return True
            if ready and not piece:
                return False
            self._look_at_the_clock(time.monotonic() - start, task.timeout)

    def _look_at_the_clock(self, passed: float, timeout: float) -> None:
        if passed > _BOOT_LIMIT and not (self._out / ".started").exists():
            raise _Hung("the guest did not come up", self._text, self._log)
        if passed > timeout:
            raise GuestFailed(f"no end within {timeout:.0f} s", self._text, self._log)

    def _status(self) -> int:
        try:
            return int((self._out / ".status").read_text())
        except (FileNotFoundError, ValueError):
            raise GuestFailed("the guest died", self._text, self._log) from None

    @property
    def _text(self) -> str:
        return self._output.decode("utf-8", "replace")

    @property
    def _log(self) -> str:
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def _command(self, image: GuestImage) -> list[str]:
        return [
            *("setpriv", "--pdeathsig", "KILL"),  # a killed test run leaves no machine behind
            "qemu-system-x86_64",
            *("-accel", "tcg,thread=multi,tb-size=512"),
            *("-machine", "q35,usb=off,smbus=off,sata=off,hpet=off,vmport=off"),
            *("-cpu", "qemu64", "-smp", "1", "-m", "2G", "-no-reboot"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-monitor", "none"),
            *("-kernel", str(image.kernel), "-initrd", str(image.initramfs)),
            *("-append", _KERNEL_OPTIONS),
            *("-serial", f"file:{_escaped(self._console)}"),
            *("-device", "virtio-serial-pci", "-chardev", "stdio,id=output,signal=off"),
            *("-device", "virtserialport,chardev=output,nr=1"),
            *("-object", "rng-random,id=rng,filename=/dev/urandom"),
            *("-device", "virtio-rng-pci,rng=rng"),
            *_folder("src", TREE, read_only=True),
            *_folder("out", self._out),
            *_drive("root", image.root, "snapshot=on"),
            *(word for number, path in enumerate(self._disks)
              for word in _drive(f"disk{number}", path, "discard=unmap")),
        ]  # fmt: skip


@contextmanager
def _machine(command: list[str]) -> Iterator[IO[bytes]]:
    """Run a machine; yield its output, QEMU's own complaints included.

    Its input is a pipe that stays open: at an end of file QEMU would close the port, and the
    guest's next write to it would block for ever.
    """
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        try:
            yield process.stdout
        finally:
            process.kill()


def _folder(tag: str, path: Path, *, read_only: bool = False) -> tuple[str, ...]:
    mode = ",readonly=on" if read_only else ""
    export = f"local,id={tag},path={_escaped(path)},security_model=none,multidevs=remap{mode}"
    return "-fsdev", export, "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"


def _drive(serial: str, path: Path, options: str) -> tuple[str, ...]:
    """A virtio disk.  QEMU holds back no write: what the guest's kernel has sent is in the
    host's memory, and survives QEMU.  So flushes may do nothing, and cost nothing."""
    drive = f"file={_escaped(path)},format=raw,if=none,id={serial},cache=unsafe,{options}"
    return "-drive", drive, "-device", f"virtio-blk-pci,drive={serial},serial={serial}"


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")  # a comma ends the value
