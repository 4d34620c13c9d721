# SPDX-License-Identifier: GPL-2.0-only
"""iSCSI by the kernel's initiator and open-iscsi: a session, and the block device of one LUN.

The device is found through sysfs, by its session and LUN; no name is ever guessed.  A session
that was there before is borrowed and left open.  One of ours is shared by all runs that use its
target meanwhile (shared locks on a file per target count them), and logged out by the last.
The CHAP settings go into the node record, a file that only root can read: never into argv.
A record that was there before is used as it is, and left.
Interface: iscsiadm(8), and /sys/class/iscsi_session as the kernel's scsi_transport_iscsi makes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from bsync.acquire.holders import user_of
from bsync.acquire.identity import fact as _fact
from bsync.acquire.watchdog import PATIENCE
from bsync.errors import CopyFailed, Refused, Unavailable, Unreleased, joined
from bsync.ledger import Facts, Ledger
from bsync.locate import IscsiLun
from bsync.run import installed, loaded, run

_LOG = "see what iscsid says in the system's log"
_SESSIONS = Path("/sys/class/iscsi_session")
_CONNECTIONS = Path("/sys/class/iscsi_connection")
_TRANSPORT = Path("/sys/class/iscsi_transport/tcp")
_NODES = Path("/etc/iscsi/nodes")
_PATIENCE = 15.0  # seconds for the disks of a session to appear
_UDEV = Path("/run/udev/control")  # is there while udev is
_LOGIN = 90.0  # seconds for iscsiadm to end; it gives up by itself long before
# Of a record of ours; open-iscsi's own settings take two minutes to give up a login, and two to
# fail what waits for a target that is gone: that is a minute, as in user space.
_BOUNDED = {
    "node.startup": "manual",
    "node.session.initial_login_retry_max": "2",
    "node.conn[0].timeo.login_timeout": "10",
    "node.session.timeo.replacement_timeout": f"{PATIENCE:.0f}",
}
_OURS, _SESSION = b"ours   ", b"session"  # what of it is ours: also the record; not the record
_DROPPED = (  # LIO also closes the connection where it does not know the IQN
    "the portal did not answer in time, or hung up",
    "is its address right? does it have this IQN? see: iscsiadm -m discovery -t st -p PORTAL",
)
_REASONS = {  # exit statuses of iscsiadm(8)
    8: _DROPPED,
    11: _DROPPED,
    4: ("the portal refused the connection, or cannot be reached", "check address and port"),
    5: ("the target refused the login", "does it let this initiator in?"),
    19: ("the target does not know this IQN", "iscsiadm -m discovery -t st -p PORTAL lists them"),
    20: ("open-iscsi's daemon does not answer", "is iscsid running?"),
    24: ("the target refused the user name or the password", "see --password-file"),
}


_REFUSING = (5, 8, 11, 19, 24)  # what a target's or our own refusal of CHAP may look like


@dataclass(frozen=True)
class Credentials:
    """CHAP: ours, and those by which the target proves itself (mutual CHAP)."""

    user: str
    password: str = field(repr=False)
    target_user: str = ""
    target_password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Disk:
    """A disk of a session: its LUN and its block device."""

    lun: int
    path: str


class Session:
    """A session of ours with one target through one portal."""

    kind: ClassVar[str] = "iscsi-session"

    def __init__(
        self, iqn: str, address: str, port: int, lock: str, credentials: Credentials | None = None
    ) -> None:
        self.iqn = iqn
        self.address = address
        self.port = port
        self._lock_path = lock
        self._credentials = credentials
        self._lock = -1

    @classmethod
    def from_facts(cls, facts: Facts) -> Session:
        iqn, address = str(facts["iqn"]), str(facts["address"])
        return cls(iqn, address, int(facts["port"]), str(facts["lock"]))

    def facts(self) -> Facts:
        facts: Facts = {"iqn": self.iqn, "address": self.address}
        return facts | {"port": self.port, "lock": self._lock_path}

    @property
    def portal(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"

    def acquire(self) -> None:
        """Log in, unless another run of ours or somebody else has."""
        with self._alone():
            self._lock = _opened(self._lock_path)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
            if self.find() is None:
                self._login()

    def release(self) -> None:
        """Log out if the session is ours and nobody else of ours uses it."""
        with self._alone():
            lock = self._lock if self._lock >= 0 else _opened(self._lock_path)
            self._lock = -1
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                ours = os.pread(lock, len(_OURS), 0)
                if ours in (_OURS, _SESSION):
                    self._logout(record=ours == _OURS)
                os.unlink(self._lock_path)
            except BlockingIOError:
                pass  # the last of us logs out
            finally:
                os.close(lock)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time logs in or out.

        A lock of its own, on the folder: one that is held shared cannot be made exclusive
        without letting go of it, and its file may be removed at any time.
        """
        folder = os.open(os.path.dirname(self._lock_path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def find(self) -> Path | None:
        """The session in sysfs, whoever opened it."""
        for session in sorted(_SESSIONS.glob("session*")):
            connection = _CONNECTIONS / f"{session.name.replace('session', 'connection')}:0"
            here = (_fact(session / "targetname").lower(), _fact(connection / "persistent_address"))
            if (*here, _fact(connection / "persistent_port")) == (
                self.iqn.lower(),
                self.address,
                str(self.port),
            ):
                return session
        return None

    def trouble(self) -> str:
        """What to ask oneself when reading or writing failed; empty while the session is well."""
        session = self.find()
        well = session is not None and _fact(session / "state") == "LOGGED_IN"
        return "" if well else "check the server and the network"

    def _login(self) -> None:
        theirs = self._record() is not None
        if theirs and self._credentials:
            raise Unavailable(
                f"{self.portal}: open-iscsi has a node record for {self.iqn} already",
                "log in by it (iscsiadm --login), or leave out the user: it has its own password",
            )
        os.pwrite(self._lock, _SESSION if theirs else _OURS, 0)
        if not theirs:
            self._make_record()
        result = self._iscsiadm("--login", ok=range(256))
        if result:
            what, hint = _REASONS.get(result, (f"iscsiadm ended with status {result}", _LOG))
            if result in _REFUSING[:-1] and self._credentials and self._credentials.target_user:
                what = f"{what}, or could not prove itself by its own password"
            if result in _REFUSING:
                hint = f"{_chap_hint(self._credentials)}; {hint}"
            raise Unavailable(f"{self.portal}: {what} ({self.iqn})", hint)

    def _logout(self, *, record: bool) -> None:
        """Log out, but never with a disk that somebody uses by now: nobody can begin to in the
        middle of it either."""
        with contextlib.ExitStack() as held:
            for disk in _disks(self)[0]:
                held.enter_context(self._unused(disk))
            if self.find() is not None:
                self._iscsiadm("--logout", failure=Unreleased)
        if record and self._record() is not None:
            self._iscsiadm("--op", "delete", failure=Unreleased)

    @contextlib.contextmanager
    def _unused(self, disk: Disk) -> Iterator[None]:
        """Keep the disk to the end of the block.  Raises `Unreleased` where it is in use."""
        try:
            descriptor = os.open(disk.path, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise Unreleased(
                    f"still logged in to {self.iqn}: {disk.path} is in use: {user_of(disk.path)[0]}"
                ) from None
            descriptor = -1  # a path that is dead is nobody's
        try:
            yield
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _iscsiadm(
        self,
        *what: str,
        ok: range = range(1),
        failure: type[Unavailable | Unreleased] = Unavailable,
    ) -> int:
        node = ("--mode", "node", "--targetname", self.iqn, "--portal", self.portal)
        return run("iscsiadm", *node, *what, ok=ok, failure=failure, timeout=_LOGIN).status

    def _record(self) -> Path | None:
        """The file with the node record: in a folder, once the portal's group tag is known."""
        for path in (_NODES / self.iqn).glob("*"):
            if path.name.split(",")[:2] == [self.address, str(self.port)]:
                return path / "default" if path.is_dir() else path
        return None

    def _make_record(self) -> None:
        self._iscsiadm("--op", "new")
        record = self._record()
        if record is None:
            raise Unavailable(f"{self.portal}: open-iscsi made no node record for {self.iqn}")
        settings = _BOUNDED | (_chap(self._credentials) if self._credentials else {})
        lines = [
            line
            for line in record.read_text().splitlines()
            if line.partition(" = ")[0] not in settings and line != "# END RECORD"
        ]
        lines += [f"{name} = {value}" for name, value in settings.items()]
        with open(record, "w", opener=_private) as file:
            file.write("\n".join([*lines, "# END RECORD", ""]))


@contextlib.contextmanager
def attached(ledger: Ledger, locator: IscsiLun, credentials: Credentials | None) -> Iterator[str]:
    """The block device of the LUN, by its path, until the end of the block.

    Raises `Unavailable`; `Refused` where several disks are there and none was named.
    """
    address = _address(locator)
    name = hashlib.sha256(f"{locator.iqn} {address} {locator.port}".encode()).hexdigest()[:16]
    lock = str(ledger.directory.parent / f"iscsi-{name}.lock")
    with ledger.holding(Session(locator.iqn, address, locator.port, lock, credentials)) as session:
        disk = _disk(session, locator)
        _ask_size(disk)
        _wait_for_udev(disk)
        try:
            yield disk.path
        except CopyFailed as error:
            error.hint = joined(session.trouble(), error.hint)
            raise


def available() -> bool:
    """Whether this kernel has an iSCSI initiator, and open-iscsi is there to use it."""
    return installed("iscsiadm") and loaded("iscsi_tcp", _TRANSPORT)


def _disk(session: Session, locator: IscsiLun) -> Disk:
    """The disk that `locator` names, once all disks of the session are there."""
    deadline = time.monotonic() + _PATIENCE
    disks, complete = _disks(session)
    while not (disks and complete) and time.monotonic() < deadline:
        time.sleep(0.1)
        disks, complete = _disks(session)
    wanted = [disk for disk in disks if locator.lun in (None, disk.lun)]
    if len(wanted) == 1:
        return wanted[0]
    if not wanted:
        what = "no disk" if locator.lun is None else f"no disk at LUN {locator.lun}"
        hint = f"name one: {_listed(disks)}" if disks else "does it serve this initiator any?"
        raise Unavailable(f"{locator}: the target has {what}", hint)
    raise Refused(f"{locator}: the target has {len(disks)} disks", f"name one: {_listed(disks)}")


def _disks(session: Session) -> tuple[list[Disk], bool]:
    """The disks of the session by LUN, and whether each of them has its block device by now.

    They are its SCSI devices of type 0.  All are known after the login, but the kernel makes
    their block devices later, one by one.
    """
    found = session.find()
    devices = [
        device
        for device in (found.glob("device/target*/*:*:*:*") if found else ())
        if _fact(device / "type") == "0"
    ]
    disks = [
        Disk(int(device.name.rsplit(":", 1)[1]), f"/dev/{block.name}")
        for device in devices
        for block in (device / "block").glob("*")
        if Path(f"/dev/{block.name}").is_block_device()
    ]
    return sorted(disks, key=lambda disk: disk.lun), len(disks) == len(devices)


def _ask_size(disk: Disk) -> None:
    """Have the kernel ask for the disk's size: under a session that stood for long it may have
    grown or shrunk."""
    with contextlib.suppress(OSError):
        Path(f"/sys/class/block/{Path(disk.path).name}/device/rescan").write_text("1")


def _wait_for_udev(disk: Disk) -> None:
    """udev looks at every new disk; until it has, it may open and lock it at any moment."""
    if _UDEV.exists():
        patience = f"--timeout={_PATIENCE:.0f}"
        run("udevadm", "wait", patience, disk.path, ok=range(256), failure=Unavailable)


def _listed(disks: list[Disk]) -> str:
    return ", ".join(f"LUN {disk.lun}" for disk in disks)


def _address(locator: IscsiLun) -> str:
    """The portal's numeric address: what sysfs and the node records know it by."""
    try:
        found = socket.getaddrinfo(locator.portal, locator.port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unavailable(
            f"{locator.portal}: {error.strerror}", "check the portal's name"
        ) from None
    return str(found[0][4][0])


def _chap_hint(credentials: Credentials | None) -> str:
    """What of CHAP may be the reason for a refused login, which targets word in many ways."""
    if credentials is None:
        return "if the target wants CHAP, name the user: iscsi://USER@PORTAL/..."
    if credentials.target_user:
        return "are both passwords right? the target's own is the second line of the password file"
    return "are user and password right?"


def _chap(credentials: Credentials) -> dict[str, str]:
    """The settings of a node record for CHAP."""
    auth = "node.session.auth"
    settings = {
        f"{auth}.authmethod": "CHAP",
        f"{auth}.username": credentials.user,
        f"{auth}.password": credentials.password,
    }
    if credentials.target_user:
        settings[f"{auth}.username_in"] = credentials.target_user
        settings[f"{auth}.password_in"] = credentials.target_password
    return settings


def _opened(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
