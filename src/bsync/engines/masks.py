# SPDX-License-Identifier: GPL-2.0-only
"""ACLs whose mask is not what their file's mode says, which rsync(1) takes the mode for.

Whoever sets an ACL changes the mode with it, but ReiserFS forgets that when it is unmounted.  What
is set here must be the last change to a file: every other one writes the mode, too.
Format: linux/posix_acl_xattr.h.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable
from pathlib import Path

from bsync.engines.attributes import opened

ACCESS = "system.posix_acl_access"
_HEADER = 4  # bytes
_ENTRY = struct.Struct("<HHI")  # tag, permissions, ID
_MASK = 0x10
_NONE = (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT, errno.ENOTDIR)

Lists = dict[bytes, bytes]  # ACLs by path


def odd(root: Path, names: Iterable[bytes]) -> Lists:
    """The ACLs of those of `names` (relative to `root`) whose masks are not what their modes say.
    Raises `OSError`."""
    found = {}
    for name in names:
        path = os.path.join(os.fsencode(root), name)
        mask = _mask(present := _read(path))
        if mask not in (None, os.lstat(path).st_mode >> 3 & 7):
            found[name] = present
    return found


def apply(source: Path, destination: Path, names: Iterable[bytes]) -> None:
    """Give `names` the ACLs that they have on the source.  Raises `CopyFailed`."""
    for name in names:
        wanted = _read(os.path.join(os.fsencode(source), name))
        if not wanted:
            continue
        with opened(destination, name, os.O_PATH) as descriptor:
            path = f"/proc/self/fd/{descriptor}".encode()
            if _read(path, follow=True) != wanted:
                os.setxattr(path, ACCESS, wanted)


def _read(path: bytes, *, follow: bool = False) -> bytes:
    """The access ACL of a file; empty where there is none."""
    try:
        return os.getxattr(path, ACCESS, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NONE:
            return b""
        raise


def _mask(acl: bytes) -> int | None:
    for tag, permissions, _ in _ENTRY.iter_unpack(acl[_HEADER:]):
        if tag == _MASK:
            return int(permissions)
    return None
