# SPDX-License-Identifier: GPL-2.0-only
"""Whole clones to and from the LUNs of a real target, and images of other formats."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import assert_clone, fill, random_boot
from lab import MIB, Lab, Part, Run, call, digest, wait_until
from loopback_target import IQN, free_port, serving
from midcopy import daemons
from small_disks import bare, disk


def synchronises(lab: Lab, source: str | Path, target: str | Path) -> None:
    """A first clone, a proof, and a second run that transfers nothing."""
    lab.bsync("--yes", source, target)
    lab.bsync("verify", source, target)
    assert "0 files, 0 bytes transferred" in lab.bsync(source, target).out


def test_an_image_to_a_lun_and_back(lab: Lab) -> None:
    source = disk(lab)
    lun = lab.image("lun", source.stat().st_size + 8 * MIB)
    back = lab.image("back", lun.stat().st_size)
    with serving(lun) as target:
        synchronises(lab, source, target.word)
        before = digest(lun)
        synchronises(lab, target.word, back)
    assert digest(lun) == before
    lab.bsync("verify", source, lun)
    lab.bsync("verify", source, back)


UNALIGNED = """label: dos
unit: sectors
start=63, size=24573, type=83, bootable
start=24636, size=8193, type=82
start=32829, size=32769, type=83
start=65598, size=65730, type=5
start=65661, size=28677, type=83
start=94401, size=36861, type=83
"""


def test_neighbours_that_share_pages(lab: Lab) -> None:
    """By blocks, by files and swap side by side, their borders within a page of memory."""
    source, lun = lab.image("source.img", 66 * MIB), lab.image("lun", 66 * MIB)
    parts = {part.number: part for part in lab.table(source, UNALIGNED)}
    fill(lab, source)
    random_boot(source, 30_000)
    lab.make(source, parts[3], "mke2fs", "-q", "-t", "ext4", "-O", "bigalloc", "-b",
             "1024")  # fmt: skip
    with serving(lun) as target:
        assert "bigalloc" in lab.bsync("plan", source, target.word).out
        for number in (1, 3, 5, 6):
            synchronises(lab, source, target.word)
            with lab.mounted(source, parts[number]) as tree:
                (tree / "new").write_bytes(os.urandom(3 * MIB))
        lab.bsync(source, target.word)
        lab.bsync("verify", source, target.word)
    assert_clone(lab, source, lun)


def test_a_portal_with_an_ipv6_address(lab: Lab) -> None:
    source = bare(lab)
    lun = lab.image("lun", source.stat().st_size)
    with serving(lun, address="[::1]") as target:
        assert "[::1]" in target.word
        synchronises(lab, source, target.word)
    lab.bsync("verify", source, lun)


def test_a_lun_to_another(lab: Lab) -> None:
    source = bare(lab)
    lun = lab.image("lun", source.stat().st_size)
    with serving(source, lun) as target:
        assert "name one: LUN 1" in lab.bsync(target.word, lun, status=3).err
        synchronises(lab, f"{target.word}/1", f"{target.word}/2")
    lab.assert_clean(lun)
    lab.bsync("verify", source, lun)


def test_the_password_of_a_lun(lab: Lab) -> None:
    source = bare(lab)
    lun = lab.image("lun", source.stat().st_size)
    secret = lab.folder / "secret"
    secret.write_text("correct-horse-1\n")
    with serving(lun, user="admin", password="correct-horse-1") as target:
        lab.bsync("--password-file", secret, source, target.word)
        lab.environment["BSYNC_ISCSI_PASSWORD"] = "wrong-horse-123"
        run = lab.bsync(source, target.word, status=4)
        assert len(run.err.splitlines()) == 2
        del lab.environment["BSYNC_ISCSI_PASSWORD"]
        assert "needs a password" in lab.bsync(source, target.word, status=4).err


@pytest.mark.parametrize("way", ["files", "credentials", "environment"])
def test_two_targets_with_two_passwords(lab: Lab, way: str) -> None:
    luns = bare(lab), lab.image("lun", 64 * MIB)
    secrets = {"source": "correct-horse-1", "destination": "battery-staple-2"}
    words: list[str | Path] = []
    for side, secret in secrets.items():
        file = lab.folder / f"bsync.{side}-password"
        file.write_text(secret)
        if way == "files":
            words += [f"--{side}-password-file", file]
        elif way == "credentials":
            lab.environment["CREDENTIALS_DIRECTORY"] = str(lab.folder)
        else:
            lab.environment[f"BSYNC_ISCSI_{side.upper()}_PASSWORD"] = secret
    with (
        serving(luns[0], user="one", password=secrets["source"]) as source,
        serving(luns[1], user="other", password=secrets["destination"], iqn=f"{IQN}2") as target,
    ):
        lab.bsync("plan", *words, source.word, target.word)


def test_a_lun_is_not_cloned_onto_itself(lab: Lab) -> None:
    lun = bare(lab)
    with serving(lun) as target:
        lab.bsync(target.word, target.word, status=3)


@pytest.mark.parametrize("kind", ["qcow2", "vmdk", "vhdx", "vpc", "vdi"])
def test_images_of_other_formats(lab: Lab, kind: str) -> None:
    source = bare(lab)
    image = lab.folder / f"image.{kind}"
    call("qemu-img", "create", "-q", "-f", kind, image, f"{source.stat().st_size + 8 * MIB}")
    synchronises(lab, source, f"{kind}://{image}")
    back = lab.image("back", source.stat().st_size + 16 * MIB)
    synchronises(lab, f"{kind}://{image}", back)
    lab.assert_clean(back)


def test_an_image_given_bare_is_not_taken_for_a_disk(lab: Lab) -> None:
    image = lab.folder / "image.qcow2"
    call("qemu-img", "create", "-q", "-f", "qcow2", image, "64M")
    before = digest(image)
    assert "qcow2://" in lab.bsync("--yes", bare(lab), image, status=3).err
    assert digest(image) == before


def test_looking_at_a_lun(lab: Lab) -> None:
    lun = bare(lab)
    target_image = lab.image("target", lun.stat().st_size)
    with serving(lun) as target:
        assert "ext4" in lab.bsync("inspect", target.word).out
        assert "copy ext4" in lab.bsync("plan", target.word, target_image).out


# --- NBD ----------------------------------------------------------------------------------


@contextlib.contextmanager
def exported_locally(image: Path) -> Iterator[str]:
    """The same behind a socket of this machine."""
    socket = image.with_suffix(".socket")
    process = subprocess.Popen(
        ["nbdkit", "--foreground", "--exit-with-parent", "--unix", socket, "file", image],
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_until(socket.exists, lambda: "nbdkit does not start")
        yield f"nbd+unix:///?socket={socket}"
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def exported(image: Path) -> Iterator[str]:
    """The locator of an image that nbdkit serves."""
    port = free_port()
    where = ("--ipaddr", "127.0.0.1", "--port", str(port))
    process = subprocess.Popen(
        ["nbdkit", "--foreground", "--exit-with-parent", *where, "file", image],
        stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        listens = f":{port:04X} 00000000:0000 0A"
        wait_until(
            lambda: listens in Path("/proc/net/tcp").read_text(), lambda: "nbdkit does not start"
        )  # fmt: skip
        yield f"nbd://127.0.0.1:{port}/"
    finally:
        process.kill()
        process.wait()


def test_an_image_and_its_own_export_are_the_same(lab: Lab) -> None:
    """Nothing on the wire tells; the kernel tells what the server has open."""
    image = disk(lab)
    before = digest(image)
    with exported(image) as word, exported_locally(image) as other:
        for pair in ((image, word), (word, image), (word, other), (image, other)):
            assert "are the same storage" in lab.bsync("--yes", *pair, status=3).err
    assert digest(image) == before


def test_an_image_to_an_nbd_export_and_back(lab: Lab) -> None:
    source = disk(lab)
    image = lab.image("export", source.stat().st_size + 8 * MIB)
    back = lab.image("back", image.stat().st_size)
    with exported(image) as word:
        synchronises(lab, source, word)
        before = digest(image)
        synchronises(lab, word, back)
    assert digest(image) == before
    lab.bsync("verify", source, image)
    lab.bsync("verify", source, back)


# --- what goes away at the beginning of a copy; in its middle: test_remote_faults -----------


def assert_honest(lab: Lab, run: Run, source: Path, lun: Path) -> None:
    """Done and proven, or failed and said so; nothing stays."""
    assert run.status in (0, 5), run.out + run.err
    lab.assert_all_goes()
    if run.status == 0:
        lab.bsync("verify", source, lun)
    else:
        assert len(run.err.splitlines()) == 2, run.err
        said = lab.bsync("inspect", lun).out
        assert "bsync-incomplete" in said or "an incomplete clone" in said


def test_a_target_that_restarts_before_the_first_byte(lab: Lab) -> None:
    source = bare(lab)
    lun = lab.image("lun", source.stat().st_size)
    with serving(lun) as target:
        with lab.held(source, target.word) as go_on:
            target.kill()
            threading.Timer(3, target.start).start()
            run = go_on()
        assert_honest(lab, run, source, lun)
        synchronises(lab, source, target.word)
    lab.assert_clean(lun)


def test_a_daemon_that_dies_before_the_first_byte(lab: Lab) -> None:
    """Its filesystem is mounted then; umount would succeed although data were lost."""
    source = bare(lab)
    lun = lab.image("lun", source.stat().st_size)
    with serving(lun) as target:
        with lab.held(source, target.word) as go_on:
            (daemon,) = daemons(lab)
            os.kill(daemon, signal.SIGKILL)
            run = go_on()
        assert run.status == 5, run.out + run.err
        assert_honest(lab, run, source, lun)
        synchronises(lab, source, target.word)
    lab.assert_clean(lun)


def test_a_lun_is_the_same_by_another_portal(lab: Lab) -> None:
    lun = bare(lab)
    before = digest(lun)
    with serving(lun, address="0.0.0.0") as target:
        again = target.word.replace("0.0.0.0", "127.0.0.2")
        assert "must be different disks" in lab.bsync("--yes", target.word, again, status=3).err
    assert digest(lun) == before


def test_blocks_of_4096_bytes_stay_so_at_both_ends(lab: Lab) -> None:
    """The table's unit is a block, so that what it says is elsewhere with another."""
    source, lun = lab.image("source", 64 * MIB), lab.image("lun", 64 * MIB)
    with serving(source, lun, block_size=4096) as target:
        with lab.attached(source, sector_size=4096) as device:
            call("sfdisk", "--quiet", device, given="label: gpt\nstart=1MiB, size=60MiB\n")
        with lab.attached(source, Part(1, MIB, 60 * MIB, "")) as device:
            call("mke2fs", "-q", "-t", "ext4", "-b", "4096", device)
        synchronises(lab, f"{target.word}/1", f"{target.word}/2")
    for image in (source, lun):
        assert image.read_bytes()[4096:4104] == b"EFI PART"
    lab.assert_clean(lun, Part(1, MIB, 60 * MIB, ""))
