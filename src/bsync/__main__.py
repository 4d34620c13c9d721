# SPDX-License-Identifier: GPL-2.0-only
"""Signals to exceptions, exceptions to one line, one line to an exit status."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import sys
from types import FrameType


def _leave(number: int, _frame: FrameType | None) -> None:
    """End at once: nothing is held yet."""
    os._exit(128 + number)


gc.set_threshold(50_000)  # what is imported is no garbage: a tenth of the time to start

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
for _number in SIGNALS:
    if signal.getsignal(_number) is not signal.SIG_IGN:  # nohup(1) means what it says
        signal.signal(_number, _leave)

import click  # noqa: E402 after what a signal would cut short

from bsync.errors import (  # noqa: E402
    MEANING,
    BsyncError,
    Defect,
    Status,
    Stopped,
    Unavailable,
    Untold,
    machine_troubles,
)
from bsync.say import say_error  # noqa: E402

_MEMORY = 512 << 20  # bytes of address space that a run may take


def main() -> None:
    """The `bsync` command."""
    _fill_standard_streams()
    _forget_the_parents_signals()
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # for linear algebra; there is none
    status = _run()
    for number in SIGNALS:  # as the interpreter ends, it would forget the handlers, and die of it
        signal.signal(number, signal.SIG_IGN)
    sys.exit(status)


def _forget_the_parents_signals() -> None:
    """What the parent ignored or blocked stays so over exec(2): a child's end would then go
    unnoticed, and count as success."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _fill_standard_streams() -> None:
    """Nothing that is opened later may get the number of a stream that was closed: what a
    library writes there would end up on a disk."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _check_memory() -> None:
    """Raise `Unavailable` where libraries would end us in the middle for want of memory."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    if limit != resource.RLIM_INFINITY and limit < _MEMORY:
        have, need = limit >> 20, _MEMORY >> 20
        message = f"bsync needs {need} MiB of address space, and may have {have}"
        raise Unavailable(message, "raise the limit: ulimit -v")


def _complete() -> None:
    """Tell a shell what the last word may become.  Nothing that goes wrong is worth a word."""
    with contextlib.suppress(Exception):
        from bsync import completion
        from bsync.cli import main as commands

        completion.answer(commands, sys.argv[1:])


def _tell(error: BsyncError) -> None:
    """Say what nobody has said yet, to a program as an event."""
    if "--json" not in sys.argv or isinstance(error, Untold):
        say_error(error)
        return
    from bsync.jsonlines import JsonReporter

    JsonReporter().failed(error)


def _run() -> int:
    if "_BSYNC_COMPLETE" in os.environ:
        _complete()
        return Status.DONE
    try:
        _check_memory()
        with machine_troubles():
            from bsync.cli import main as commands

            return commands.main(prog_name="bsync", standalone_mode=False) or Status.DONE
    except BsyncError as error:
        if not error.said:
            _tell(error)
        return error.status
    except click.ClickException as error:
        from bsync.parser import explained

        _tell(explained(error))
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
        _tell(Defect(defect, "please report it; BSYNC_DEBUG=1 shows where it is"))
        return Status.DEFECT


if __name__ == "__main__":
    main()
