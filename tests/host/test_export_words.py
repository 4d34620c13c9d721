# SPDX-License-Identifier: GPL-2.0-only
"""Why an image or an export cannot be opened, in a line and a hint."""

from __future__ import annotations

import subprocess

import pytest
from exports import ledger_in
from lab import Lab, call, wait_until
from loopback_target import free_port

from bsync.acquire.image_format import exported_image, exported_nbd
from bsync.errors import Unavailable
from bsync.locate import ImageFile, NbdExport


def test_an_encrypted_image(lab: Lab) -> None:
    image, secret = lab.folder / "image", ("--object", "secret,id=s,data=x")
    options = "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"
    call("qemu-img", "create", "-q", "-f", "qcow2", *secret, "-o", options, image, "8M")
    with ledger_in(lab) as ledger, pytest.raises(Unavailable, match="is encrypted") as caught:
        exported_image(ledger, ImageFile("qcow2", str(image)), writable=False).__enter__()
    assert "nbd+unix://" in caught.value.hint


def test_a_server_that_wants_tls(lab: Lab) -> None:
    keys, port = lab.folder / "keys", free_port()
    keys.write_text("user:00112233445566778899aabbccddeeff\n")
    keys.chmod(0o600)
    where = ("--ipaddr", "127.0.0.1", "--port", str(port))
    words = ("--tls=require", f"--tls-psk={keys}", "memory", "8M")
    pid = lab.folder / "pid"
    server = subprocess.Popen(["nbdkit", "-f", "-P", pid, "--exit-with-parent", *where, *words])
    try:
        wait_until(pid.exists, lambda: "nbdkit does not start")
        with ledger_in(lab) as ledger, pytest.raises(Unavailable, match="wants TLS") as caught:
            exported_nbd(ledger, NbdExport("", "127.0.0.1", port), writable=False).__enter__()
        assert caught.value.hint
    finally:
        server.kill()
        server.wait()


def test_a_socket_that_is_not_there(lab: Lab) -> None:
    export = NbdExport("x", port=0, socket=str(lab.folder / "nobody"))
    with ledger_in(lab) as ledger, pytest.raises(Unavailable, match="cannot connect"):
        exported_nbd(ledger, export, writable=False).__enter__()
