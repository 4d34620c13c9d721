"""Signals to exceptions, exceptions to one line, one line to an exit status."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

import click

from bsync.deferred import SIGNALS
from bsync.errors import MEANING, BsyncError, Status, Stopped, Usage
from bsync.say import say_error


def main() -> None:
    """The `bsync` command."""
    _fill_standard_streams()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for linear algebra; there is none
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) means what it says
            signal.signal(number, _stop)
    sys.exit(_run())


def _fill_standard_streams() -> None:
    """Nothing that is opened later may get the number of a stream that was closed: what a
    library writes there would end up on a disk."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _stop(number: int, _frame: FrameType | None) -> None:
    """End the run once; what is being released meanwhile is not to be interrupted again."""
    for other in SIGNALS:
        signal.signal(other, signal.SIG_IGN)
    raise Stopped(number)


def _run() -> int:
    from bsync.cli import main as commands

    try:
        commands.main(prog_name="bsync", standalone_mode=False)
        return Status.DONE
    except BsyncError as error:
        if not error.said:
            say_error(error)
        return error.status
    except click.ClickException as error:
        say_error(Usage(error.format_message(), "bsync --help shows commands and options"))
        return Status.USAGE
    except Stopped as error:
        say_error(BsyncError(error.message, error.hint))
        return error.status
    except click.Abort:
        say_error(BsyncError(MEANING[Status.INTERRUPTED]))
        return Status.INTERRUPTED
    except Exception as error:
        if os.environ.get("BSYNC_DEBUG"):
            raise
        defect = f"a defect in bsync: {type(error).__name__}: {error}"
        say_error(BsyncError(defect, "please report it; BSYNC_DEBUG=1 shows where it is"))
        return Status.DEFECT


if __name__ == "__main__":
    main()
