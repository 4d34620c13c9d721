"""Passwords for iSCSI: from a file, the environment, or the terminal; never from argv.

The file's first line is the password.  A second line, USER:PASSWORD, is what the target has to
prove itself with in turn (mutual CHAP).
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Callable

from bsync.acquire.open_iscsi import Credentials
from bsync.errors import Unavailable
from bsync.locate import IscsiLun

VARIABLE = "BSYNC_ISCSI_PASSWORD"


def provider(path: str) -> Callable[[IscsiLun], Credentials | None]:
    """What gives the credentials for a LUN; `path` is the password file, or empty."""

    def credentials(locator: IscsiLun) -> Credentials | None:
        if locator.user is None:
            return None
        if path:
            return _from_file(locator.user, path)
        password = os.environ.get(VARIABLE) or _asked(locator)
        return Credentials(locator.user, password)

    return credentials


def _from_file(user: str, path: str) -> Credentials:
    try:
        with open(path, encoding="utf-8") as file:
            first, second, *_ = [*file.read().splitlines(), "", ""]
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise Unavailable(f"the password file {path}: {reason}") from None
    if not first:
        raise Unavailable(f"the password file {path} is empty")
    target_user, _, target_password = second.partition(":")
    return Credentials(user, first, target_user, target_password)


def _asked(locator: IscsiLun) -> str:
    if not sys.stdin.isatty():
        raise Unavailable(
            f"{locator} needs a password", f"--password-file FILE, or {VARIABLE} in the environment"
        )
    return getpass.getpass(f"Password of {locator.user} at {locator.portal}: ")
