# SPDX-License-Identifier: GPL-2.0-only
"""What a destination's contents are taken for, and what is not done to them unasked."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from by_blocks import assert_clean
from lab import KIB, MIB, Lab, call, digest
from test_damaged_sources import patched

NOTHING = "00000000-0000-0000-0000-000000000000"
MMP_SEQUENCE = 4  # bytes into its block


def ext(lab: Lab, name: str, uuid: str, *options: str) -> Path:
    image, tree = lab.image(name, 32 * MIB), lab.folder / f"{name}-tree"
    tree.mkdir()
    for number in range(5):
        (tree / f"{name}-{number}").write_bytes(os.urandom(4000))
    call("mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, *options, image)
    call("tune2fs", "-f", "-U", uuid, image, given="y\n")
    return image


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_no_uuid_is_nobodys(lab: Lab, engine: str) -> None:
    source, target = ext(lab, "one", NOTHING), ext(lab, "other", NOTHING)
    before = digest(target)
    said = lab.bsync(source, target, "--engine", engine, status=3)
    assert "destroy" in said.out
    assert digest(target) == before
    lab.bsync(source, target, "--engine", engine, "--yes")
    lab.bsync("verify", source, target)


def test_no_uuid_is_nobodys_byte_by_byte(lab: Lab) -> None:
    source, target = ext(lab, "one", NOTHING), ext(lab, "other", NOTHING)
    before = digest(target)
    assert "destroy" in lab.bsync(source, target, "--engine", "raw", status=3).out
    assert digest(target) == before


@pytest.mark.parametrize("engine", ["blocks", "files"])
def test_a_few_large_files_are_not_deleted_unasked(lab: Lab, engine: str) -> None:
    source, target = lab.image("source.img", 128 * MIB), lab.image("target.img", 128 * MIB)
    lab.make(source, None, "mke2fs", "-q", "-t", "ext4")
    with lab.mounted(source) as tree:
        for number in range(20):
            (tree / f"large-{number}").write_bytes(os.urandom(3 * MIB))
    lab.bsync(source, target, "--engine", engine)
    with lab.mounted(source) as tree:
        for number in range(19):
            (tree / f"large-{number}").unlink()
    before = digest(target)
    assert "MiB" in lab.bsync(source, target, "--engine", engine, status=3).out.split("destroy")[1]
    assert digest(target) == before


@pytest.mark.parametrize("side", ["source", "target"])
def test_what_another_machine_has_mounted_is_left_alone(lab: Lab, side: str) -> None:
    images = {name: ext(lab, name, "random", "-O", "mmp") for name in ("source", "target")}
    said = call("dumpe2fs", "-h", images[side])
    block = int(said.split("MMP block number:")[1].split()[0])
    size = int(said.split("Block size:")[1].split()[0])
    patched(images[side], block * size + MMP_SEQUENCE, struct.pack("<I", 7))
    before = digest(images["target"])
    refused = lab.bsync(images["source"], images["target"], "--yes", status=3).err
    assert "another machine" in refused
    assert digest(images["target"]) == before


@pytest.mark.parametrize("size", [16 * KIB, 64 * KIB])
def test_swap_of_a_machine_with_large_pages(lab: Lab, size: int) -> None:
    source, target = lab.image("source.img", 16 * MIB), lab.image("target.img", 16 * MIB)
    call("mkswap", "--pagesize", str(size), "--label", "arm", source)
    assert f"pages of {size // KIB} KiB" in lab.bsync(source, target).out
    with target.open("rb") as file:
        file.seek(size - 10)
        assert file.read(10) == b"SWAPSPACE2"
    lab.bsync("verify", source, target)
    assert "0 bytes" in lab.bsync(source, target).out


@pytest.mark.parametrize(
    ("at", "written", "named"),
    [
        (4096 - 10, b"SWAP-SPACE", "swap of version 0"),
        (1024, b"\0\0\0\1", "swap of a machine with the other byte order"),
    ],
)
def test_swap_that_cannot_be_made_is_named(lab: Lab, at: int, written: bytes, named: str) -> None:
    source, target = lab.image("source.img", 16 * MIB), lab.image("target.img", 16 * MIB)
    call("mkswap", source)
    patched(source, at, written)
    assert named in lab.bsync(source, target, status=3).err
    lab.bsync("--raw", source, target)
    lab.bsync("verify", source, target)


def test_a_clone_by_blocks_that_differs_in_metadata_is_said_to(lab: Lab) -> None:
    source, target = ext(lab, "source", "random"), lab.image("target.img", 32 * MIB)
    lab.bsync(source, target)
    call("debugfs", "-w", "-R", "sif source-1 crtime 20200101", target)
    assert "metadata" in lab.bsync("verify", source, target, status=6).out
    lab.bsync(source, target)
    lab.bsync("verify", source, target)
    assert_clean(target)
