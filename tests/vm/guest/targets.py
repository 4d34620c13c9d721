# SPDX-License-Identifier: GPL-2.0-only
"""iSCSI for guest tests: a user-space target (tgt), the kernel's own (LIO), an initiator.

    with served(TgtTarget([Lun(image)], chap=Chap("user", "password"))) as target:
        rig.bsync(source, target.url(user="user"))

Both serve on the loopback address, and may be taken down and brought up again meanwhile.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from lab import call, wait_until

INITIATOR: Final = "iqn.2004-10.test.example:initiator"
ADDRESS: Final = "127.0.0.1"
_CONFIGFS = Path("/sys/kernel/config")
_NODES = Path("/etc/iscsi/nodes")


@dataclass(frozen=True)
class Lun:
    """A disk that a target serves: an image file, or a block device."""

    image: Path
    read_only: bool = False


@dataclass(frozen=True)
class Chap:
    """Credentials.  A password has 12 letters at least, as most initiators want it."""

    user: str
    password: str


class Target(Protocol):
    """What both kinds of target are to a test."""

    @property
    def iqn(self) -> str: ...
    @property
    def portal(self) -> str:
        """ADDRESS:PORT"""

    @property
    def chap(self) -> Chap | None:
        """What the initiator has to say to be let in."""

    @property
    def mutual(self) -> Chap | None:
        """What the target says in return."""

    def number(self, index: int) -> int:
        """The LUN of the disk `index`, counted from 0."""

    def up(self) -> None: ...
    def down(self) -> None: ...


class _Served:
    """What the kinds have in common."""

    kind = ""
    first_lun = 0

    def __init__(
        self, luns: Sequence[Lun], *, port: int, name: str = "disk",
        chap: Chap | None = None, mutual: Chap | None = None, address: str = ADDRESS, iqn: str = "",
    ) -> None:  # fmt: skip
        self.luns = luns
        self.iqn = iqn or f"iqn.2004-10.test.example:{self.kind}-{name}"
        self.portal = f"{address}:{port}"
        self.chap = chap
        self.mutual = mutual

    def number(self, index: int) -> int:
        return self.first_lun + index

    def url(self, index: int | None = None, user: str = "") -> str:
        """The locator of a disk; without `index` it is left to bsync to find the only one."""
        lun = f"/{self.number(index)}" if index is not None else ""
        return f"iscsi://{user}{'@' if user else ''}{self.portal}/{self.iqn}{lun}"


class TgtTarget(_Served):
    """tgtd, in a process of its own.  Its LUN 0 is its controller, the first disk LUN 1."""

    kind = "tgt"
    first_lun = 1

    def __init__(
        self, luns: Sequence[Lun], *, port: int = 3260, name: str = "disk",
        chap: Chap | None = None, mutual: Chap | None = None, address: str = ADDRESS, iqn: str = "",
    ) -> None:  # fmt: skip
        super().__init__(
            luns, port=port, name=name, chap=chap, mutual=mutual, address=address, iqn=iqn
        )
        self.process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        """Start the daemon and tell it everything.  Nobody is let in before the end."""
        Path("/run/tgtd").mkdir(exist_ok=True)
        command = ("tgtd", "-f", "--iscsi", f"portal={self.portal}")
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self._answers, lambda: "tgtd does not answer")
        self._admin("new", "target", "--targetname", self.iqn)
        for index, lun in enumerate(self.luns):
            number = str(self.number(index))
            self._admin("new", "logicalunit", "--lun", number, "--backing-store", lun.image)
            if lun.read_only:
                self._admin("update", "logicalunit", "--lun", number, "--params", "readonly=1")
        self._credentials(self.chap)
        self._credentials(self.mutual, "--outgoing")
        self._admin("bind", "target", "--initiator-address", "ALL")

    def down(self) -> None:
        """Kill it, at whatever it is."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _credentials(self, chap: Chap | None, *direction: str) -> None:
        if chap is not None:
            who = ("--user", chap.user)
            call(*_TGTADM, "--op", "new", "--mode", "account", *who, "--password", chap.password)
            self._admin("bind", "account", *who, *direction)

    def _admin(self, operation: str, mode: str, *words: str | Path) -> None:
        call(*_TGTADM, "--op", operation, "--mode", mode, "--tid", "1", *words)

    def _answers(self) -> bool:
        words = (*_TGTADM, "--op", "show", "--mode", "sys")
        return subprocess.run(words, capture_output=True, check=False).returncode == 0


_TGTADM = ("tgtadm", "--lld", "iscsi")


class LioTarget(_Served):
    """The kernel's target, set up through configfs.  Its first disk is LUN 0."""

    kind = "lio"

    def __init__(
        self, luns: Sequence[Lun], *, port: int = 3261, name: str = "disk",
        chap: Chap | None = None, mutual: Chap | None = None, address: str = ADDRESS, iqn: str = "",
    ) -> None:  # fmt: skip
        super().__init__(
            luns, port=port, name=name, chap=chap, mutual=mutual, address=address, iqn=iqn
        )
        self._stores = _CONFIGFS / f"target/core/fileio_{port}"
        self._top = _CONFIGFS / "target/iscsi" / self.iqn
        self._portals = self._top / "tpgt_1"
        self._guest = self._portals / "acls" / INITIATOR

    def up(self) -> None:
        """Let our initiator in, and nobody else."""
        _load_lio()
        self._stores.mkdir(parents=True, exist_ok=True)
        (self._portals / "np" / self.portal).mkdir(parents=True)
        self._guest.mkdir()
        for index, lun in enumerate(self.luns):
            self._serve(index, lun)
        self._credentials()
        (self._portals / "enable").write_text("1")

    def down(self) -> None:
        """Take all of it away, the sessions included: what was linked first goes last."""
        (self._portals / "enable").write_text("0")
        for index in range(len(self.luns)):
            (self._guest / f"lun_{index}/disk").unlink()
            (self._guest / f"lun_{index}").rmdir()
        self._guest.rmdir()
        for index in range(len(self.luns)):
            (self._portals / f"lun/lun_{index}/disk").unlink()
            (self._portals / f"lun/lun_{index}").rmdir()
            (self._stores / f"disk{index}").rmdir()
        (self._portals / "np" / self.portal).rmdir()
        for folder in (self._portals, self._top, self._stores):
            folder.rmdir()

    def _serve(self, index: int, lun: Lun) -> None:
        store = self._stores / f"disk{index}"
        store.mkdir()
        size = int(call("blockdev", "--getsize64", lun.image, ok=(0, 1)) or 0)
        size = size or lun.image.stat().st_size
        (store / "control").write_text(f"fd_dev_name={lun.image},fd_dev_size={size}")
        (store / "enable").write_text("1")
        place = self._portals / f"lun/lun_{index}"
        place.mkdir()
        (place / "disk").symlink_to(store)
        seen = self._guest / f"lun_{index}"
        seen.mkdir()
        (seen / "disk").symlink_to(place)
        (seen / "write_protect").write_text("1" if lun.read_only else "0")

    def _credentials(self) -> None:
        (self._portals / "attrib/authentication").write_text("1" if self.chap else "0")
        for chap, suffix in ((self.chap, ""), (self.mutual, "_mutual")):
            if chap is not None:
                (self._guest / f"auth/userid{suffix}").write_text(chap.user)
                (self._guest / f"auth/password{suffix}").write_text(chap.password)


def _load_lio() -> None:
    Path("/etc/target").mkdir(exist_ok=True)  # where the module wants to keep its notes
    call("modprobe", "--all", "configfs", "target_core_mod", "target_core_file", "iscsi_target_mod")
    if not (_CONFIGFS / "target").exists():
        call("mount", "-t", "configfs", "configfs", _CONFIGFS)
    (_CONFIGFS / "target/iscsi").mkdir(exist_ok=True)


@contextlib.contextmanager
def served(target: TgtTarget | LioTarget) -> Iterator[TgtTarget | LioTarget]:
    """The target, up for the block."""
    target.up()
    try:
        yield target
    finally:
        target.down()


# --- the initiator ------------------------------------------------------------------------------


def start_initiator() -> None:
    """iscsid, unless it runs; sessions are made by `Rig.logged_in`, or by bsync."""
    if call("pgrep", "--exact", "iscsid", ok=(0, 1)):
        return
    Path("/run/lock/iscsi").mkdir(parents=True, exist_ok=True)
    Path("/etc/iscsi/initiatorname.iscsi").write_text(f"InitiatorName={INITIATOR}\n")
    call("modprobe", "iscsi_tcp")
    call("iscsid")


def log_in(target: Target) -> None:
    """A session with a record of its own, which is removed by `log_out`."""
    _node(target, "--op", "new")
    try:
        _authenticate(target)
        _node(target, "--login")
    except BaseException:
        _node(target, "--op", "delete")
        raise
    call("udevadm", "settle")


def _authenticate(target: Target) -> None:
    for prefix, chap in (("username", target.chap), ("username_in", target.mutual)):
        if chap is not None:
            _set(target, f"node.session.auth.{prefix}", chap.user)
            password = prefix.replace("username", "password")
            _set(target, f"node.session.auth.{password}", chap.password)
    if target.chap is not None:
        _set(target, "node.session.auth.authmethod", "CHAP")


def log_out(target: Target) -> None:
    _node(target, "--logout")
    _node(target, "--op", "delete")
    call("udevadm", "settle")


def session_disks(iqn: str) -> dict[int, str]:
    """The disks of the session with a target, by LUN, as sysfs has them."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = dict(_disks_of(iqn))
        if found:
            call("udevadm", "settle")
            return found
        time.sleep(0.1)
    raise AssertionError(f"no disk of {iqn} appears")


def _disks_of(iqn: str) -> Iterator[tuple[int, str]]:
    for session in Path("/sys/class/iscsi_session").glob("session*"):
        if (session / "targetname").read_text().strip() == iqn:
            for disk in (session / "device").glob("target*/*:*:*:*/block/*"):
                yield int(disk.parents[1].name.rpartition(":")[2]), f"/dev/{disk.name}"


def _node(target: Target, *words: str) -> None:
    whose = ("--targetname", target.iqn, "--portal", target.portal)
    call("iscsiadm", "--mode", "node", *whose, *words)


def _set(target: Target, name: str, value: str) -> None:
    _node(target, "--op", "update", "--name", name, "--value", value)
