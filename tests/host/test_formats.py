# SPDX-License-Identifier: GPL-2.0-only
"""Image formats and NBD exports: read and written through the storage daemon."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from exports import (
    BLOCK,
    SIZE,
    assert_filesystem,
    block,
    ledger_in,
    loop_over,
    make_filesystem,
    write_blocks,
    wrong_blocks,
)
from lab import MIB, Lab, call, digest, wait_until
from loopback_target import free_port, silent_port

from bsync.acquire.image_format import detected, exported_image, exported_nbd, refuse_format
from bsync.errors import Refused, Unavailable
from bsync.locate import IMAGE_FORMATS, ImageFile, NbdExport

ALL = range(SIZE // BLOCK)
VARIANTS = [
    ("qcow2", "compat=1.1"), ("qcow2", "compat=0.10,cluster_size=4096"),
    ("vmdk", "subformat=monolithicSparse"), ("vmdk", "subformat=twoGbMaxExtentFlat"),
    ("vhdx", "subformat=dynamic"), ("vpc", "subformat=dynamic,force_size=on"),
    ("vpc", "subformat=fixed,force_size=on"), ("vdi", "static=off"),
]  # fmt: skip


def make(lab: Lab, form: str, options: str = "", name: str = "") -> ImageFile:
    path = lab.folder / (name or f"disk.{form}")
    more = ["-o", options] if options else []
    call("qemu-img", "create", "-q", "-f", form, *more, path, str(SIZE))
    return ImageFile(form, str(path))


def to_raw(lab: Lab, image: ImageFile) -> Path:
    raw = lab.folder / "raw"
    call("qemu-img", "convert", "-f", image.format, "-O", "raw", image.path, raw)
    return raw


# --- formats ------------------------------------------------------------------------------


@pytest.mark.parametrize(("form", "options"), VARIANTS)
def test_a_filesystem_written_to_an_image_is_in_it(lab: Lab, form: str, options: str) -> None:
    image = make(lab, form, options)
    with (
        ledger_in(lab) as ledger,
        exported_image(ledger, image, writable=True) as found,
        loop_over(found.path, writable=True) as device,
    ):
        assert found.path.stat().st_size == SIZE
        make_filesystem(device, lab.folder / "tree")
    assert_filesystem(lab, to_raw(lab, image))


@pytest.mark.parametrize("form", IMAGE_FORMATS)
def test_a_source_is_read_and_not_changed(lab: Lab, form: str) -> None:
    raw = lab.image("raw", SIZE)
    raw.write_bytes(b"".join(map(block, ALL)))
    image = ImageFile(form, str(lab.folder / f"disk.{form}"))
    call("qemu-img", "convert", "-f", "raw", "-O", form, raw, image.path)
    before = digest(Path(image.path))
    with ledger_in(lab) as ledger, exported_image(ledger, image, writable=False) as found:
        assert found.path.read_bytes()[:SIZE] == raw.read_bytes()
        with pytest.raises(OSError, match=r"denied|not permitted|Read-only"):
            found.path.write_bytes(b"x")
    assert digest(Path(image.path)) == before


def test_writes_in_flight_together_do_not_corrupt_each_other(lab: Lab) -> None:
    image = make(lab, "qcow2")
    with (
        ledger_in(lab) as ledger,
        exported_image(ledger, image, writable=True) as found,
        loop_over(found.path, writable=True) as device,
    ):
        write_blocks(device, ALL)
    assert wrong_blocks(to_raw(lab, image), ALL) == []


def test_zeroes_take_no_room_and_are_zero(lab: Lab) -> None:
    image = make(lab, "qcow2")
    with (
        ledger_in(lab) as ledger,
        exported_image(ledger, image, writable=True) as found,
        loop_over(found.path, writable=True) as device,
    ):
        write_blocks(device, ALL[:64])
        call("blkdiscard", "--zeroout", device)
        call("dd", "if=/dev/zero", f"of={device}", "bs=1M", "count=64", "status=none")
    assert os.stat(image.path).st_blocks * 512 < 8 * MIB
    assert not to_raw(lab, image).read_bytes().strip(b"\0")


def test_an_overlay_is_read_with_what_it_builds_on(lab: Lab) -> None:
    base = make(lab, "qcow2")
    call("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 1M", base.path)
    overlay = ImageFile("qcow2", str(lab.folder / "overlay"))
    call("qemu-img", "create", "-q", "-f", "qcow2", "-b", base.path, "-F", "qcow2", overlay.path)
    before = digest(Path(base.path))
    with ledger_in(lab) as ledger, exported_image(ledger, overlay, writable=True) as found:
        assert found.path.read_bytes()[: 2 * MIB] == b"\7" * MIB + bytes(MIB)
        with found.path.open("r+b") as file:
            file.write(b"x" * MIB)
        with pytest.raises(Refused, match="in use"):
            exported_image(ledger, base, writable=True).__enter__()
    assert digest(Path(base.path)) == before
    assert to_raw(lab, overlay).read_bytes()[:MIB] == b"x" * MIB


@pytest.mark.parametrize(("form", "options"), VARIANTS)
def test_a_format_is_detected(lab: Lab, form: str, options: str) -> None:
    image = make(lab, form, options)
    with open(image.path, "rb") as file:
        assert detected(file.fileno()) == form
        with pytest.raises(Refused, match=f"is a {form} image") as caught:
            refuse_format(image.path, file.fileno())
        assert str(image) in caught.value.hint
        assert f"loop://{image.path}" in caught.value.hint


@pytest.mark.parametrize("size", [0, 3, 511, 512, 513, SIZE])
def test_a_raw_file_is_no_image(lab: Lab, size: int) -> None:
    with lab.image("raw", size).open("rb") as file:
        assert detected(file.fileno()) == ""
        refuse_format("raw", file.fileno())


@pytest.mark.parametrize("writable", [False, True])
def test_what_is_not_of_the_format_is_unavailable(lab: Lab, writable: bool) -> None:
    image = lab.image("raw", SIZE)
    with ledger_in(lab) as ledger, pytest.raises(Unavailable, match="not in qcow2 format"):
        exported_image(ledger, ImageFile("qcow2", str(image)), writable=writable).__enter__()


def test_no_such_file(lab: Lab) -> None:
    with ledger_in(lab) as ledger, pytest.raises(Unavailable, match="No such file") as caught:
        exported_image(ledger, ImageFile("vdi", "/nowhere"), writable=True).__enter__()
    assert "qemu-img create" in caught.value.hint


def test_an_image_that_is_in_use_is_refused(lab: Lab) -> None:
    image = make(lab, "qcow2")
    with (
        ledger_in(lab) as ledger,
        exported_image(ledger, image, writable=True),
        pytest.raises(Refused, match="in use"),
    ):
        exported_image(ledger, image, writable=False).__enter__()


def test_a_compressed_vmdk_is_only_a_source(lab: Lab) -> None:
    image = make(lab, "vmdk", "subformat=streamOptimized")
    with ledger_in(lab) as ledger:
        with pytest.raises(Refused, match="compressed"):
            exported_image(ledger, image, writable=True).__enter__()
        with exported_image(ledger, image, writable=False) as found:
            assert found.path.stat().st_size == SIZE


# --- NBD ----------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(*options: str | Path, socket: Path | None = None) -> Iterator[NbdExport]:
    """nbdkit on a loopback port or a socket, until the end of the block."""
    port = 0 if socket else free_port()
    where = ["--unix", str(socket)] if socket else ["--ipaddr", "127.0.0.1", "--port", str(port)]
    argv = ["nbdkit", "--foreground", "--exit-with-parent", *where, *map(str, options)]
    process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    export = NbdExport("", "" if socket else "127.0.0.1", port, str(socket or ""))
    try:
        wait_until(lambda: _listens(port, socket), lambda: "nbdkit does not start")
        yield export
    finally:
        process.kill()
        process.communicate()


def _listens(port: int, socket: Path | None) -> bool:
    if socket:
        return socket.exists()
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text()


@pytest.mark.parametrize("local", [False, True])
def test_a_filesystem_written_to_an_export_is_in_its_file(lab: Lab, local: bool) -> None:
    image = lab.image("disk", SIZE)
    with (
        serving("file", image, socket=lab.folder / "s o+%" if local else None) as export,
        ledger_in(lab) as ledger,
        exported_nbd(ledger, export, writable=True) as found,
        loop_over(found.path, writable=True) as device,
    ):
        make_filesystem(device, lab.folder / "tree")
    assert_filesystem(lab, image)


def test_writes_over_nbd_do_not_corrupt_each_other_and_holes_are_zero(lab: Lab) -> None:
    image = lab.image("disk", SIZE)
    with (
        serving("file", image) as export,
        ledger_in(lab) as ledger,
        exported_nbd(ledger, export, writable=True) as found,
        loop_over(found.path, writable=True) as device,
    ):
        write_blocks(device, ALL)
        call("blkdiscard", "--zeroout", "--length", str(BLOCK), device)
    assert wrong_blocks(image, ALL[1:]) == []
    assert image.read_bytes()[:BLOCK] == bytes(BLOCK)


def test_a_read_only_export_is_only_a_source(lab: Lab) -> None:
    with serving("--readonly", "memory", "8M") as export, ledger_in(lab) as ledger:
        with pytest.raises(Refused, match="read-only"):
            exported_nbd(ledger, export, writable=True).__enter__()
        with exported_nbd(ledger, export, writable=False) as found:
            assert found.path.stat().st_size == 8 * MIB


def test_a_server_that_refuses(lab: Lab) -> None:
    export = NbdExport("x", "127.0.0.1", free_port())
    with ledger_in(lab) as ledger, pytest.raises(Unavailable, match="refused the connection"):
        exported_nbd(ledger, export, writable=False).__enter__()


def test_a_server_that_says_nothing(lab: Lab) -> None:
    began = time.monotonic()
    with (
        silent_port() as port,
        ledger_in(lab) as ledger,
        pytest.raises(Unavailable, match="did not answer in time"),
    ):
        exported_nbd(ledger, NbdExport("x", "127.0.0.1", port), writable=False).__enter__()
    assert time.monotonic() - began < 30
