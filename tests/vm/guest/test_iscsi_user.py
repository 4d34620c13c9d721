# SPDX-License-Identifier: GPL-2.0-only
"""LUNs without the kernel's initiator, of a target in user space (tgt) and the kernel's (LIO)."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import targets
from exports import BLOCK, block, got, ledger_in, loop_over, put
from lab import MIB, call, digest
from midcopy import Copy, material, struck
from rig import Rig
from small_disks import BARE_SIZE, bare
from targets import Chap, LioTarget, Lun, TgtTarget, served

from bsync.acquire.iscsi_user import Attached, attached
from bsync.acquire.open_iscsi import Credentials
from bsync.locate import IscsiLun, parse

Kind = type[TgtTarget | LioTarget]
KINDS = pytest.mark.parametrize("kind", [TgtTarget, LioTarget])
IN = Chap("guest", "correct-horse-1")


@pytest.fixture(autouse=True)
def no_open_iscsi() -> Iterator[None]:
    """A machine that has none, but the name that targets know it by."""
    targets.start_initiator()
    tool = shutil.which("iscsiadm")
    assert tool
    os.chmod(tool, 0o644)
    yield
    os.chmod(tool, 0o755)


def blank(rig: Rig, name: str = "lun.img") -> Path:
    return rig.image(name, BARE_SIZE)


@contextlib.contextmanager
def lun_of(rig: Rig, target: TgtTarget | LioTarget) -> Iterator[Attached]:
    """The target's only disk, to be written."""
    locator = parse(target.url())
    assert isinstance(locator, IscsiLun)
    chap = target.chap
    credentials = Credentials(chap.user, chap.password) if chap else None
    with ledger_in(rig) as ledger, attached(ledger, locator, credentials, writable=True) as found:
        yield found


@KINDS
@pytest.mark.parametrize("chap", [None, IN], ids=["open", "CHAP"])
def test_two_sessions_that_see_the_same(rig: Rig, kind: Kind, chap: Chap | None) -> None:
    """Neither puts an end to the other, although both come from one initiator."""
    with served(kind([Lun(blank(rig))], chap=chap)) as target, lun_of(rig, target) as lun:
        shortcut = lun.export.shortcut
        assert shortcut is not None
        with (
            loop_over(lun.export.path, writable=True) as device,
            shortcut.channel() as channel,
            open(device, "r+b", buffering=0) as loop,
        ):
            for number in range(8):
                put(channel, number, block(number))
            channel.flush()
            shortcut.forget(loop.fileno())
            for number in range(8):
                assert os.pread(loop.fileno(), BLOCK, number * BLOCK) == block(number)
            os.pwrite(loop.fileno(), block(9), 3 * BLOCK)
            os.fsync(loop.fileno())
            assert got(channel, 3) == block(9)


@KINDS
def test_an_image_to_a_lun_and_back(rig: Rig, kind: Kind) -> None:
    source, lun, back = bare(rig), blank(rig), blank(rig, "back.img")
    with served(kind([Lun(lun)])) as target:
        rig.bsync(source, target.url())
        with rig.mounted(source) as tree:
            (tree / "new").write_bytes(os.urandom(MIB))
        assert "done: 2 files, 1" in rig.bsync(source, target.url()).out
        rig.assert_mirror(source, target.url())
        call("sync")
        before = digest(lun)
        rig.bsync(target.url(0), back)
    assert digest(lun) == before
    rig.bsync("verify", source, lun)
    rig.bsync("verify", source, back)


@pytest.mark.engine("blocks")
def test_the_kernels_target_restarts_between_bytes(rig: Rig) -> None:
    """Done and proven, or failed and said so; both sessions come back, or both do not."""
    source = material(rig, 32 * MIB)
    copy = Copy(source, rig.image("lun.img", source.size))
    target = LioTarget([Lun(copy.image)])
    with served(target):
        run = struck(rig, copy.to(target.url()), target.down, target.up)
        if run.status != 0:
            assert run.status == 5, run.out + run.err
            assert len(run.err.splitlines()) == 2, run.err
            rig.bsync(source.image, target.url())
    rig.bsync("verify", source.image, copy.image)
    rig.assert_clean(copy.image)
    assert source.arrived(copy.image) == 1
