# SPDX-License-Identifier: GPL-2.0-only
"""What to do where a file or device cannot be had."""

from __future__ import annotations

import errno
import os


def to_create(error: OSError, path: str, size: int) -> str:
    """What to do where an image file cannot be created."""
    folder = os.path.dirname(path) or "."
    match error.errno:
        case errno.EOPNOTSUPP | errno.EISDIR:  # O_TMPFILE, that is
            return f"try: truncate -s {size} {path}"
        case errno.ENOENT:
            return f"create the folder first: mkdir -p {folder}"
        case errno.EROFS:
            return f"the filesystem that holds {folder} is mounted read-only"
        case errno.EFBIG | errno.EINVAL:
            return f"the filesystem that holds {folder} has no files as large as that"
    return privilege(error)


def to_make(path: str) -> str:
    """What to do where the destination is missing."""
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        return f"create the folder first: mkdir -p {folder}"
    if not os.access(folder, os.W_OK):
        return f"the filesystem that holds {folder} is mounted read-only"
    return "--create SIZE makes an image file"


def privilege(error: OSError) -> str:
    """What to do where something was not permitted; empty where it was."""
    if error.errno not in (errno.EACCES, errno.EPERM):
        return ""
    if os.geteuid():
        return "run as root"
    return "root may not do so here: is it immutable (lsattr), or is this a container?"
