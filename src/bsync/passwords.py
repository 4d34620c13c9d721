# SPDX-License-Identifier: GPL-2.0-only
"""Passwords for iSCSI, of either side: from a file, a credential of systemd's, the environment, or
the terminal; never from argv.

A file's or credential's first line is the password.  A second line, USER:PASSWORD, is what the
target has to prove itself with in turn (mutual CHAP).  What is meant for one side comes before
what is meant for both.
Credentials: systemd.exec(5), LoadCredential=, and https://systemd.io/CREDENTIALS.
"""

from __future__ import annotations

import functools
import getpass
import os
import sys
from collections.abc import Callable, Iterator

from bsync.acquire.open_iscsi import Credentials
from bsync.errors import Unavailable
from bsync.locate import IscsiLun

SIDES = ("source", "destination")
VARIABLE = "BSYNC_ISCSI_PASSWORD"  # for both sides
CREDENTIAL = "bsync.password"  # for both sides


def variable(side: str) -> str:
    """The environment variable for one side's password."""
    return f"BSYNC_ISCSI_{side.upper()}_PASSWORD"


def credential(side: str) -> str:
    """The name of systemd's credential for one side's password."""
    return f"bsync.{side}-password"


def provider(side: str, *paths: str) -> Callable[[IscsiLun], Credentials | None]:
    """What gives the credentials for a LUN that is the `side` of a run; `paths` are the password
    files for it, the first that is not empty counts."""

    @functools.cache  # nobody is asked twice
    def credentials(locator: IscsiLun) -> Credentials | None:
        if locator.user is None:
            return None
        for path in (*filter(None, paths), *_credentials(side)):
            return _from_file(locator.user, path)
        for name in (variable(side), VARIABLE):
            if password := os.environ.get(name):
                return Credentials(locator.user, password)
        return Credentials(locator.user, _asked(locator, side))

    return credentials


def _credentials(side: str) -> Iterator[str]:
    """The files of systemd's credentials for a side."""
    if folder := os.environ.get("CREDENTIALS_DIRECTORY"):
        paths = (os.path.join(folder, name) for name in (credential(side), CREDENTIAL))
        yield from filter(os.path.exists, paths)


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


def _asked(locator: IscsiLun, side: str) -> str:
    if not sys.stdin.isatty():
        raise Unavailable(
            f"{locator} needs a password",
            f"--{side}-password-file FILE, the credential {credential(side)}, or "
            f"{variable(side)} in the environment",
        )
    return getpass.getpass(f"Password of {locator.user} at {locator.portal}: ")
