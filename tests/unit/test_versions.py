# SPDX-License-Identifier: GPL-2.0-only
"""Whatever names this version and its day says the same."""

from __future__ import annotations

import datetime
import re
from email.utils import parsedate_to_datetime
from pathlib import Path

import make_docs
import pytest

from bsync import __version__

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def day() -> datetime.date:
    return datetime.date.fromisoformat(make_docs.date())


def test_the_man_page_has_the_day_of_the_changelog(day: datetime.date) -> None:
    assert f'.TH BSYNC 8 "{day}" "bsync {__version__}"' in make_docs.page()


def test_the_debian_package_is_of_this_version(day: datetime.date) -> None:
    text = (ROOT / "debian/changelog").read_text()
    assert re.match(rf"bsync \({re.escape(__version__)}-\d+\) ", text)
    when = re.search(r"^ -- .*>  (.*)$", text, re.MULTILINE)
    assert when
    assert parsedate_to_datetime(when[1]).date() >= day


def test_the_rpm_is_of_this_version(day: datetime.date) -> None:
    text = (ROOT / "packaging/bsync.spec").read_text()
    assert re.search(r"^Version:\s+(\S+)$", text, re.MULTILINE)[1] == __version__  # type: ignore[index]
    _, _, log = text.partition("%changelog\n")
    found = re.match(r"\* (\w{3} \w{3} \d+ \d{4}) .* - (\S+)-\d+\n", log)
    assert found
    assert found[2] == __version__
    assert datetime.datetime.strptime(found[1], "%a %b %d %Y").date() >= day


def test_a_version_that_the_changelog_lacks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make_docs, "__version__", "9.9")
    with pytest.raises(ValueError, match=r"CHANGELOG.md does not begin an entry by '## 9.9 \(DATE"):
        make_docs.date()
