# SPDX-License-Identifier: GPL-2.0-only
"""A word of the command line → a frozen `Locator`.  Pure: nothing is opened here.

    DEVICE                                    a block device or an image file, by path
    loop://FILE | loop://DEVICE               the same, asked for by name
    iscsi://[USER@]PORTAL[:PORT]/IQN[/LUN]    one LUN of an iSCSI target (RFC 7143 names)
    lvm+snapshot://VG/LV                      a snapshot of a logical volume (lvm(8) names)
    qcow2://FILE, also vmdk, vhdx, vpc, vdi   what is in an image of that format
    nbd://HOST[:PORT]/EXPORT                  an export of an NBD server
    nbd+unix:///EXPORT?socket=PATH            the same, by a socket of this machine

`str()` of a locator is its canonical spelling, and parses to an equal locator.

Nobody has URIs for image formats: QEMU's tools take a driver's name and a path (`-f qcow2
FILE`).  So the driver's name is the scheme here, and the path is written as for `loop://`.  A
path given bare is never taken for a format by its contents: who may write to a raw disk could
make it look like an image that names other files of this machine.  NBD has a specification of
its URIs (NetworkBlockDevice/nbd, doc/uri.md), which libnbd, nbdkit and QEMU follow.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from urllib.parse import quote, unquote

from bsync.errors import Usage

ISCSI_PORT = 3260
NBD_PORT = 10809
IMAGE_FORMATS = ("qcow2", "vmdk", "vhdx", "vpc", "vdi")  # QEMU's names of them
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?\.?")
_IPV6 = re.compile(r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*(%[A-Za-z0-9._-]+)?")
# As lenient as initiators are: real arrays have capitals, underscores and several colons.
_TARGET_NAME = re.compile(
    r"iqn\.[0-9]{4}-[0-9]{2}\.[^\s/@]+|eui\.[0-9a-f]{16}|naa\.([0-9a-f]{16}|[0-9a-f]{32})",
    re.IGNORECASE,
)
_LVM_NAME = re.compile(r"(?!\.\.?$)[A-Za-z0-9+_.][A-Za-z0-9+_.-]*")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_ALIASES = {"lvm": "lvm+snapshot", "lv": "lvm+snapshot", "qcow": "qcow2", "vhd": "vpc"}


@dataclass(frozen=True)
class DevicePath:
    """A path given bare: a block device, or an image file."""

    path: str

    def __str__(self) -> str:
        return self.path


@dataclass(frozen=True)
class LoopFile:
    """An image file, or a device treated as one."""

    path: str

    def __str__(self) -> str:
        return f"loop://{self.path}"


@dataclass(frozen=True)
class IscsiLun:
    """One LUN of an iSCSI target; `lun` None means the only disk that the target has."""

    portal: str
    iqn: str
    port: int = ISCSI_PORT
    lun: int | None = None
    user: str | None = None

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.portal}]" if ":" in self.portal else self.portal
        lun = "" if self.lun is None else f"/{self.lun}"
        return f"iscsi://{user}{host}:{self.port}/{self.iqn}{lun}"


@dataclass(frozen=True)
class LvmSnapshot:
    """A snapshot of the logical volume `lv` in the volume group `vg`."""

    vg: str
    lv: str

    def __str__(self) -> str:
        return f"lvm+snapshot://{self.vg}/{self.lv}"


@dataclass(frozen=True)
class ImageFile:
    """The disk in an image file of one of the `IMAGE_FORMATS`."""

    format: str
    path: str

    def __str__(self) -> str:
        return f"{self.format}://{self.path}"


@dataclass(frozen=True)
class NbdExport:
    """An export of an NBD server, at a `host` or behind the `socket` of this machine.

    The export "" is the one that the server offers unasked.
    """

    export: str
    host: str = ""
    port: int = NBD_PORT
    socket: str = ""

    def __str__(self) -> str:
        if self.socket:
            socket = quote(self.socket, safe="/", errors="surrogateescape")
            return f"nbd+unix:///{quote(self.export)}?socket={socket}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"nbd://{host}:{self.port}/{quote(self.export)}"


Locator = DevicePath | LoopFile | IscsiLun | LvmSnapshot | ImageFile | NbdExport


def parse(word: str) -> Locator:
    """The locator that `word` names.  Raises `Usage` with what is wrong with it."""
    if not word:
        raise Usage("an empty word names no device", "give a path or a URL")
    if "\0" in word:
        raise Usage("a device name cannot contain a NUL byte")
    match = _SCHEME.fullmatch(word)
    if match is None:
        _refuse_half_a_scheme(word)
        return DevicePath(word)
    scheme, rest = match.groups()
    if scheme not in _PARSERS:
        raise Usage(f"unknown scheme {scheme}://", _meant(scheme))
    return _PARSERS[scheme](word, rest)


def _refuse_half_a_scheme(word: str) -> None:
    """Raise `Usage` for `loop:x`, which would else be a path that nobody has."""
    scheme, colon, _ = word.partition(":")
    if colon and scheme in _PARSERS:
        raise Usage(
            f"{scheme}: is not a scheme without //",
            f"write {scheme}://…, or ./{scheme}:… for a file of that name",
        )


def _meant(scheme: str) -> str:
    """What to write instead of an unknown scheme."""
    if scheme in ("file", "path", "dev", "raw", "img"):
        return "write the path alone, or loop://FILE"
    name = _ALIASES.get(scheme.lower())
    meant = [name] if name else get_close_matches(scheme.lower(), SCHEMES, 1)
    known = ", ".join(f"{name}://" for name in SCHEMES)
    ask = f"did you mean {meant[0]}://?  " if meant else ""
    return f"{ask}known are {known} and plain paths"


def _loop(word: str, rest: str) -> LoopFile:
    if not rest:
        raise Usage(f"{word}: no file named", "loop:///absolute/path or loop://relative/path")
    return LoopFile(rest)


def _image(name: str, word: str, rest: str) -> ImageFile:
    if not rest:
        raise Usage(f"{word}: no file named", f"{name}:///absolute/path or {name}://relative/path")
    return ImageFile(name, rest)


def _nbd(word: str, rest: str) -> NbdExport:
    address, _, path = rest.partition("/")
    if "?" in rest or "@" in address:
        raise Usage(
            f"{word}: user and parameters are not allowed", "write nbd://HOST[:PORT]/EXPORT"
        )
    host, port = _address(word, address, NBD_PORT)
    return NbdExport(_export(word, path), host, port)


def _nbd_unix(word: str, rest: str) -> NbdExport:
    path, _, query = rest.partition("?")
    name, _, quoted = query.partition("=")
    socket = unquote(quoted, errors="surrogateescape")
    if not path.startswith("/") or name != "socket" or not socket or "\0" in socket:
        raise Usage(f"{word}: no socket named", "write nbd+unix:///EXPORT?socket=PATH")
    return NbdExport(_export(word, path[1:]), port=0, socket=socket)


def _export(word: str, quoted: str) -> str:
    """The name of an export: UTF-8 of at most 4096 bytes, says the protocol."""
    name = unquote(quoted, errors="surrogateescape")
    try:
        if len(name.encode()) <= 4096 and "\0" not in name:
            return name
    except UnicodeEncodeError:
        pass
    raise Usage(f"{word}: invalid export name")


def _lvm(word: str, rest: str) -> LvmSnapshot:
    names = rest.split("/")
    if len(names) != 2 or not all(_LVM_NAME.fullmatch(name) for name in names):
        raise Usage(f"{word}: not a logical volume", "write lvm+snapshot://GROUP/VOLUME")
    return LvmSnapshot(*names)


def _iscsi(word: str, rest: str) -> IscsiLun:
    user, address = _user(word, rest)
    address, _, path = address.partition("/")
    portal, port = _address(word, address, ISCSI_PORT)
    iqn, slash, lun = path.partition("/")
    if (
        len(iqn.encode(errors="surrogateescape")) > 223
        or not iqn.isprintable()
        or not _TARGET_NAME.fullmatch(iqn)
    ):
        raise Usage(
            f"{word}: {iqn or 'nothing'} is not an iSCSI target name",
            "write iscsi://PORTAL[:PORT]/IQN, with an IQN such as iqn.2004-10.org.example:disk",
        )
    return IscsiLun(portal, iqn, port, _lun(word, lun) if slash else None, user)


def _user(word: str, rest: str) -> tuple[str | None, str]:
    """USER, and what follows it, out of `[USER@]PORTAL[:PORT]/IQN[/LUN]`."""
    quoted, at, address = rest.rpartition("@")
    if not at:
        return None, rest
    if ":" in quoted:  # said first: every other message would repeat the password
        raise Usage(
            "do not put a password in the URL: every process listing would show it",
            "give it in a file, in the environment, or at the prompt",
        )
    user = unquote(quoted, errors="surrogateescape")
    if not user or not user.isprintable():
        raise Usage(f"{word}: invalid user name", "leave out the @, or name the user")
    return user, address


def _address(word: str, address: str, default: int) -> tuple[str, int]:
    """PORTAL and PORT out of `PORTAL[:PORT]`."""
    match = re.fullmatch(r"(?:\[([^\]]*)\]|([^:\[\]]*))(?::([0-9]{1,5}))?", address)
    if match is None:
        raise Usage(
            f"{word}: {address} is not an address",
            "write HOST, HOST:PORT, or an IPv6 address in brackets",
        )
    ipv6, host, port = match.groups()
    valid = _HOST_NAME.fullmatch(host) if ipv6 is None else _is_ipv6(ipv6)
    if not valid:
        raise Usage(f"{word}: {address or 'nothing'} is not an address or a name")
    return ipv6 or host, _port(word, port, default)


def _is_ipv6(text: str) -> bool:
    try:
        return bool(_IPV6.fullmatch(text) and ipaddress.IPv6Address(text))
    except ValueError:
        return False


def _port(word: str, text: str | None, default: int) -> int:
    port = default if text is None else int(text)
    if not 0 < port < 65536:
        raise Usage(f"{word}: {port} is not a port", "a port lies between 1 and 65535")
    return port


def _lun(word: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) > 16383:
        raise Usage(f"{word}: {text or 'nothing'} is not a LUN", "a LUN lies between 0 and 16383")
    return int(text)


_PARSERS: dict[str, Callable[[str, str], Locator]] = {
    "iscsi": _iscsi,
    "lvm+snapshot": _lvm,
    "loop": _loop,
    "nbd": _nbd,
    "nbd+unix": _nbd_unix,
    **{name: partial(_image, name) for name in IMAGE_FORMATS},
}
SCHEMES = tuple(_PARSERS)
