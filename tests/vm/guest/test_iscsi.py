# SPDX-License-Identifier: GPL-2.0-only
"""LUNs through the kernel's initiator, of a target in user space (tgt) and the kernel's (LIO)."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import targets
from lab import call, digest
from rig import Rig, footprint
from small_disks import BARE_SIZE, bare
from targets import Chap, LioTarget, Lun, TgtTarget, served

Kind = type[TgtTarget | LioTarget]
KINDS = pytest.mark.parametrize("kind", [TgtTarget, LioTarget])
IN, OUT = Chap("guest", "correct-horse-1"), Chap("target", "battery-staple-2")


@pytest.fixture(autouse=True)
def initiator() -> None:
    targets.start_initiator()


def blank(rig: Rig, name: str = "lun.img") -> Path:
    return rig.image(name, BARE_SIZE)


def assert_logged_out(rig: Rig) -> None:
    """Already when bsync has ended, not some time later."""
    found = footprint()
    assert not found["iSCSI session"]
    assert not found["iSCSI record"]
    assert not rig.left()


def assert_unavailable(rig: Rig, *words: str | Path, saying: str) -> str:
    """bsync says what is wrong in one line, and what to do in another; nothing stays.  All that
    it says."""
    lines = rig.bsync(*words, status=4).err.splitlines()
    assert len(lines) == 2, lines
    assert saying in lines[0]
    assert_logged_out(rig)
    return " ".join(lines)


# --- copying ------------------------------------------------------------------------------------


@KINDS
def test_an_image_to_a_lun_and_back(rig: Rig, kind: Kind) -> None:
    source, lun, back = bare(rig), blank(rig), blank(rig, "back.img")
    with served(kind([Lun(lun)])) as target:
        rig.bsync(source, target.url())
        assert_logged_out(rig)
        call("sync")
        before = digest(lun)
        rig.bsync(target.url(0), back)
        assert_logged_out(rig)
    assert digest(lun) == before
    rig.bsync("verify", source, back)


@KINDS
def test_a_lun_to_another_of_the_same_target(rig: Rig, kind: Kind) -> None:
    source, lun = bare(rig), blank(rig)
    with served(kind([Lun(source), Lun(lun)])) as target:
        rig.bsync(target.url(0), target.url(1))
        assert_logged_out(rig)
    rig.bsync("verify", source, lun)


# --- whose session it is ------------------------------------------------------------------------


@KINDS
def test_a_session_that_was_there_is_borrowed(rig: Rig, kind: Kind) -> None:
    source = bare(rig)
    with served(kind([Lun(blank(rig))])) as target, rig.logged_in(target):
        before = footprint()
        rig.bsync(source, target.url())
        assert footprint() == before


def test_a_lun_that_grew_under_a_session(rig: Rig) -> None:
    """The kernel goes on with the size that it knows, until somebody has it ask."""
    source, lun = bare(rig), rig.image("lun.img", BARE_SIZE // 2)
    with served(TgtTarget([Lun(lun)])) as target, rig.logged_in(target) as disks:
        target.down()
        os.truncate(lun, BARE_SIZE)
        target.up()
        assert int(call("blockdev", "--getsize64", disks[1])) == BARE_SIZE // 2
        rig.bsync(source, target.url())
        assert int(call("blockdev", "--getsize64", disks[1])) == BARE_SIZE
    rig.bsync("verify", source, lun)


@KINDS
def test_two_runs_share_a_session(rig: Rig, kind: Kind) -> None:
    source, luns = bare(rig), [blank(rig, f"{name}.img") for name in ("one", "other")]
    with served(kind([Lun(lun) for lun in luns])) as target:
        with rig.stopped("after-step", 1, source, target.url(0)):
            rig.bsync(source, target.url(1))
            assert footprint()["iSCSI session"] == {target.iqn}
        assert_logged_out(rig)


@KINDS
def test_a_killed_run_is_recovered(rig: Rig, kind: Kind) -> None:
    source = bare(rig)
    with served(kind([Lun(blank(rig))])) as target:
        rig.faulty("after-step", 1, "KILL", source, target.url())
        assert footprint()["iSCSI session"] == {target.iqn}
        said = rig.bsync("recover").out
        assert f"iscsi-session {target.iqn}" in said
        assert_logged_out(rig)
        rig.bsync("--yes", source, target.url())


def test_a_record_that_was_there_is_used_and_left(rig: Rig) -> None:
    source = bare(rig)
    with served(TgtTarget([Lun(blank(rig))])) as target:
        node = ("iscsiadm", "-m", "node", "-T", target.iqn, "-p", target.portal, "--op")
        call(*node, "new")
        try:
            before = call(*node, "show")
            rig.bsync(source, target.url())
            assert not footprint()["iSCSI session"]
            assert call(*node, "show") == before
            rig.environment["BSYNC_ISCSI_PASSWORD"] = IN.password
            said = rig.bsync(source, target.url(user=IN.user), status=4).err
            assert "has a node record" in said
            assert call(*node, "show") == before
        finally:
            call(*node, "delete")


# --- credentials --------------------------------------------------------------------------------


@contextlib.contextmanager
def overheard(rig: Rig) -> Iterator[None]:
    """No password is in a command line or in a ledger at any time of the block, nor in what
    iscsiadm is called with."""
    log = rig.folder / "iscsiadm.log"
    rig.stand_in("iscsiadm", f'echo called with "$*" >> {log}')
    heard: set[bytes] = set()
    over = threading.Event()

    def listen() -> None:
        while not over.wait(0.05):
            for pattern in ("proc/[0-9]*/cmdline", "run/bsync/**/*"):
                for path in Path("/").glob(pattern):
                    with contextlib.suppress(OSError):
                        heard.add(path.read_bytes())

    listener = threading.Thread(target=listen)
    listener.start()
    try:
        yield
    finally:
        over.set()
        listener.join()
    everything = b"\n".join(heard) + log.read_bytes()
    for proof in (b"--login", b"bsync", b'"kind": "iscsi-session"', b"called with"):
        assert proof in everything, proof
    for chap in (IN, OUT):
        assert chap.password.encode() not in everything


@KINDS
@pytest.mark.parametrize("mutual", [None, OUT])
def test_the_password_comes_from_a_file(rig: Rig, kind: Kind, mutual: Chap | None) -> None:
    source, secret = bare(rig), rig.folder / "secret"
    lines = [IN.password, *([f"{mutual.user}:{mutual.password}"] if mutual else [])]
    secret.write_text("\n".join(lines) + "\n")
    with served(kind([Lun(blank(rig))], chap=IN, mutual=mutual)) as target, overheard(rig):
        run = rig.bsync("--password-file", secret, source, target.url(user=IN.user))
        assert_logged_out(rig)
    assert not any(line in run.out + run.err for line in lines)


@KINDS
def test_the_password_comes_from_the_environment(rig: Rig, kind: Kind) -> None:
    source = bare(rig)
    with served(kind([Lun(blank(rig))], chap=IN)) as target, overheard(rig):
        rig.environment["BSYNC_ISCSI_PASSWORD"] = IN.password
        rig.bsync(source, target.url(user=IN.user))
        assert_logged_out(rig)


@KINDS
def test_a_target_that_cannot_prove_itself(rig: Rig, kind: Kind) -> None:
    secret = rig.folder / "secret"
    secret.write_text(f"{IN.password}\n{OUT.user}:something-else-3\n")
    with served(kind([Lun(blank(rig))], chap=IN, mutual=OUT)) as target:
        words = ("--password-file", secret, bare(rig), target.url(user=IN.user))
        assert "the target's own is the second line" in assert_unavailable(
            rig, *words, saying=target.portal
        )


# --- refusals -----------------------------------------------------------------------------------


@KINDS
def test_what_a_target_does_not_let_in(rig: Rig, kind: Kind) -> None:
    source = bare(rig)
    with served(kind([Lun(blank(rig))], chap=IN)) as target:
        rig.environment["BSYNC_ISCSI_PASSWORD"] = "quite-another-4"
        refused = "refused the user name or the password"
        assert_unavailable(rig, source, target.url(user=IN.user), saying=refused)
        anonymous = assert_unavailable(rig, source, target.url(), saying=target.portal)
        assert "name the user: iscsi://USER@PORTAL/" in anonymous
        unknown = target.url().replace("-disk", "-other")
        assert "IQN" in assert_unavailable(rig, source, unknown, saying=target.portal)


def test_a_portal_where_nobody_answers(rig: Rig) -> None:
    source, iqn = bare(rig), "iqn.2004-10.test.example:nobody"
    with socket.create_server((targets.ADDRESS, 0)) as listener:
        portal = f"{targets.ADDRESS}:{listener.getsockname()[1]}"
        silent = f"iscsi://{portal}/{iqn}"
        assert_unavailable(rig, source, silent, saying="did not answer in time")
    assert_unavailable(rig, source, f"iscsi://{portal}/{iqn}", saying=portal)


@KINDS
def test_a_lun_that_is_mounted_here_is_refused(rig: Rig, kind: Kind) -> None:
    source, lun = bare(rig), bare(rig, name="lun.img")
    with (
        served(kind([Lun(lun)])) as target,
        rig.logged_in(target) as disks,
        rig.mounted_device(disks[target.number(0)]) as tree,
    ):
        rig.assert_refused("--yes", source, target.url(), saying="mounted", status=8)
        rig.assert_refused(target.url(), source, saying="mounted", status=8)
        assert (tree / "file-000").exists()


def test_a_target_that_restarts_during_a_copy(rig: Rig) -> None:
    """Done and proven, or failed and said so."""
    source, lun = bare(rig), blank(rig)
    target = TgtTarget([Lun(lun)])
    with served(target):
        with rig.held(source, target.url()) as go_on:
            target.down()
            threading.Timer(3, target.up).start()
            run = go_on()
        assert run.status in (0, 5), run.out + run.err
        assert_logged_out(rig)
        if run.status == 5:
            said = rig.bsync("inspect", lun).out
            assert "bsync-incomplete" in said or "an incomplete clone" in said
            rig.bsync(source, target.url())
    rig.bsync("verify", source, lun)


@KINDS
def test_several_luns_are_refused_by_their_numbers(rig: Rig, kind: Kind) -> None:
    source, luns = bare(rig), [Lun(blank(rig, f"{name}.img")) for name in ("one", "other")]
    with served(kind(luns)) as target:
        said = rig.bsync(source, target.url(), status=3).err
        assert f"name one: LUN {target.number(0)}, LUN {target.number(1)}" in said
        assert_logged_out(rig)
        absent = target.url(0).rpartition("/")[0] + "/7"
        assert_unavailable(rig, source, absent, saying="no disk at LUN 7")


@KINDS
def test_a_read_only_lun_is_no_destination(rig: Rig, kind: Kind) -> None:
    source, lun = bare(rig), blank(rig)
    before = digest(lun)
    with served(kind([Lun(lun, read_only=True)])) as target:
        run = rig.bsync(source, target.url(), status=None)
        assert run.status in (3, 4)
        assert "read-only" in run.err.lower()
        assert_logged_out(rig)
    assert digest(lun) == before
    with served(kind([Lun(source, read_only=True)])) as target:
        rig.bsync(target.url(), lun)
    rig.bsync("verify", source, lun)
