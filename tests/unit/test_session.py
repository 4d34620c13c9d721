# SPDX-License-Identifier: GPL-2.0-only
"""A process has one session, and a request is read once, whoever asks."""

from __future__ import annotations

import pytest

from bsync import session
from bsync.errors import Usage
from bsync.locate import parse
from bsync.plan import Options
from bsync.request import Request
from bsync.units import Share


def test_a_second_session_is_a_defect() -> None:
    asked = Request(parse("a"))
    with session.entered(asked, print), pytest.raises(AssertionError):  # noqa: SIM117
        with session.entered(asked, print):
            pass
    with session.entered(asked, print):
        pass


def test_what_was_not_given_is_as_usual() -> None:
    names = ("create", "snapshot_size", "password_file", "keep", "bwlimit")
    assert Request.of({"src": "a", **dict.fromkeys(names)}) == Request(parse("a"))


def test_options_by_their_names() -> None:
    given = {
        "src": "a", "dest": "loop://b", "engine": "raw", "raw": True, "no_grow": True,
        "transaction": True, "bwlimit": 5, "snapshot_size": Share(7),
    }  # fmt: skip
    options = Options("raw", raw=True, grow=False)
    assert Request.of(given) == Request(
        parse("a"), parse("loop://b"), options, snapshot_size=Share(7), keep=0, rate=5
    )
    assert Request.of({**given, "keep": 3}).keep == 3


@pytest.mark.parametrize("word", ["lvm+snapshot://b", ""])
def test_a_word_that_names_nothing(word: str) -> None:
    with pytest.raises(Usage):
        Request.of({"src": "a", "dest": word})
    with pytest.raises(Usage):
        Request.of({"src": word, "dest": "a"})
