# SPDX-License-Identifier: GPL-2.0-only
"""The ways in which a run can end."""

from __future__ import annotations

import inspect
import signal

import pytest

from bsync import errors
from bsync.errors import (
    MEANING,
    BsyncError,
    CopyFailed,
    Damaged,
    Different,
    Refused,
    Status,
    Stopped,
    Unavailable,
    nothing_written,
    writing,
)

KINDS = [
    kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, BsyncError) and kind is not BsyncError
]


def test_every_status_has_a_meaning() -> None:
    assert set(MEANING) == set(Status)
    assert all(meaning and "\n" not in meaning for meaning in MEANING.values())


def test_every_failure_has_a_status_of_its_own() -> None:
    statuses = [kind.status for kind in KINDS if kind is not Damaged]
    assert len(set(statuses)) == len(statuses) == 9
    assert Status.DONE not in statuses


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_is_one_line(kind: type[BsyncError]) -> None:
    error = kind("one\n two\r\nthree\u2028four\n", "do\nthis")
    assert error.message == "one two three four"
    assert error.hint == "do this"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_as_the_shell_says(number: int) -> None:
    stopped = Stopped(number)
    assert stopped.status == 128 + number
    assert stopped.status in MEANING
    assert not isinstance(stopped, Exception), "a handler of errors could swallow it"


@pytest.mark.parametrize(
    ("raised", "before", "meanwhile"),
    [
        (Refused, Refused, Refused),
        (Unavailable, Unavailable, CopyFailed),
        (CopyFailed, Unavailable, CopyFailed),
        (Damaged, Refused, Damaged),
        (Different, Different, Different),
    ],
)
def test_the_status_is_that_of_the_stage(
    raised: type[BsyncError], before: type[BsyncError], meanwhile: type[BsyncError]
) -> None:
    with pytest.raises(before) as early, nothing_written():
        raise raised("so it is", "do this")
    with pytest.raises(meanwhile) as late, writing():
        raise raised("so it is", "do this")
    for caught, kind in ((early, before), (late, meanwhile)):
        assert type(caught.value) is kind
        assert (caught.value.message, caught.value.hint) == ("so it is", "do this")
