# SPDX-License-Identifier: GPL-2.0-only
"""How far a run is, on screens of several sizes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import termios
from collections.abc import Iterator

import pytest

from bsync.screen.painter import Painter
from bsync.screen.progress import Progress
from bsync.screen.text import columns_of, cut, padded, time_text

MIB = 1 << 20


def half_way() -> Progress:
    """Ten seconds of a run: one copy done, one at a half, one to come."""
    progress = Progress(0.0)
    for index, name in enumerate(("root", "home", "data"), 1):
        progress.expect(index, f'partition {index}: copy ext4 "{name}"', 100 * MIB)
    progress.start(1, "copy", 0.0)
    progress.advance(1, 10 * MIB, 4.0)
    progress.end(1)  # there was less to do than expected
    progress.start(2, "copy", 5.0)
    progress.advance(2, 50 * MIB, 10.0)
    return progress


def test_a_total_with_everything() -> None:
    """The rate is that of bytes that moved: 60 MiB in ten seconds."""
    assert half_way().figures(10.0) == [
        "50%", "150 MiB of 300 MiB", "6 MiB/s", "0:25 left", "0:10 elapsed",
    ]  # fmt: skip


def test_a_second_pass_does_not_count_twice_or_beyond() -> None:
    progress = half_way()
    progress.advance(2, 1 * MIB, 11.0)
    progress.advance(2, 500 * MIB, 12.0)
    assert progress.figures(12.0)[1] == "200 MiB of 300 MiB"


def test_a_row_for_every_copy_and_none_for_what_waits() -> None:
    lines = half_way().lines(10.0, 80, 24)
    assert lines == [
        'partition 1: copy ext4 "root"       ████████████████  100%  done',
        'partition 2: copy ext4 "home"       ████████░░░░░░░░   50%  50 MiB of 100 MiB',
        'partition 3: copy ext4 "data"       ░░░░░░░░░░░░░░░░    0%  100 MiB',
        "total 50%, 150 MiB of 300 MiB, 6 MiB/s, 0:25 left, 0:10 elapsed",
    ]


def test_what_only_takes_its_time_has_no_bar() -> None:
    progress = half_way()
    progress.start(7, 'partition 9: make ext4 "big"', 10.0)
    assert progress.lines(75.0, 80, 24)[-2] == 'partition 9: make ext4 "big" ... 1:05'


def test_a_low_screen_shows_what_is_active() -> None:
    lines = half_way().lines(10.0, 80, 4)
    assert [line[:11] for line in lines] == ["partition 2", "total 50%, "]


@pytest.mark.parametrize(("width", "line"), [
    (69, '50%, 150 MiB of 300 MiB, 6 MiB/s, 0:25 left, 0:10 elapsed'),
    (40, "50%, 150 MiB of 300 MiB, 6 MiB/s"),
    (10, "50%"),
    (2, "5…"),
])  # fmt: skip
def test_a_narrow_screen_has_one_line(width: int, line: str) -> None:
    progress = half_way()
    progress.start(2, 'partition 2: copy ext4 "home"', 5.0)
    assert progress.lines(10.0, width, 24) == [line]


@pytest.mark.parametrize("width", range(1, 200, 7))
@pytest.mark.parametrize("height", [1, 2, 3, 5, 50])
def test_no_screen_is_left(width: int, height: int) -> None:
    progress = half_way()
    progress.expect(4, "partition 4: copy ext4 " + "日本" * 20, 1000 * MIB)
    lines = progress.lines(10.0, width, height)
    assert all(columns_of(line) <= width for line in lines)
    assert 0 < len(lines) <= height


def test_columns() -> None:
    assert (columns_of("日本e\u0301"), cut("日本語", 4), padded("日本", 5)) == (5, "日…", "日本 ")
    assert [time_text(n) for n in (7.9, 754, 3723)] == ["0:07", "12:34", "1:02:03"]


# --- on a terminal ------------------------------------------------------------------------


class Screen:
    """What a terminal of so many columns and lines shows."""

    def __init__(self, columns: int, lines: int) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(columns, lines)
        self.stream = os.fdopen(self.slave, "w", encoding="utf-8")
        self.all = ""

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def shown(self) -> list[str]:
        os.set_blocking(self.master, False)
        try:
            while piece := os.read(self.master, 1 << 16):
                self.all += piece.decode()
        except BlockingIOError:
            pass
        rows, row, column = [""], 0, 0
        for count, command, plain in re.findall(r"\x1b\[(\d*)(.)|([^\x1b])", self.all):
            if command == "A":
                row -= int(count)
            elif command in ("K", "J"):
                rows[row] = rows[row][:column]
                del rows[row + 1 if command == "J" else len(rows) :]
            elif plain == "\r":
                column = 0
            elif plain == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            else:
                rows[row] = rows[row][:column] + plain + rows[row][column + 1 :]
                column += 1
        return [row for row in rows if row]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    monkeypatch.setattr("bsync.screen.painter._PAUSE", 1000.0)
    found = Screen(80, 24)
    yield found
    found.stream.close()
    os.close(found.master)


def test_it_is_painted_over_itself_and_lines_stay_above(screen: Screen) -> None:
    steps = iter(range(9))
    painter = Painter(screen.stream, lambda *size: [f"step {next(steps)}", f"{size}"])
    for _ in range(5):
        painter.paint()
    assert screen.shown() == ["step 4", "(79, 23)"]
    with painter.above():
        screen.stream.write("a line\n")
        screen.stream.flush()
    assert screen.shown() == ["a line", "step 5", "(79, 23)"]
    painter.close()
    assert screen.shown() == ["a line"]
    assert "\x1b[?25" not in screen.all, "the cursor is never hidden"


def test_after_a_stop_it_is_painted_below_what_came_meanwhile(screen: Screen) -> None:
    painter = Painter(screen.stream, lambda *_: ["picture"])
    painter.paint()
    screen.stream.write("the shell\n")
    screen.stream.flush()
    signal.raise_signal(signal.SIGCONT)
    painter.paint()
    assert screen.shown() == ["picture", "the shell", "picture"]
    painter.close()
    assert signal.getsignal(signal.SIGCONT) is signal.SIG_DFL


def test_another_width_begins_anew(screen: Screen) -> None:
    painter = Painter(screen.stream, lambda width, _: [f"{width} columns"])
    painter.paint()
    screen.resize(40, 10)
    painter.paint()
    painter.paint()
    assert screen.shown() == ["79 columns", "39 columns"]
    painter.close()
