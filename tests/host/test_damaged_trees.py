# SPDX-License-Identifier: GPL-2.0-only
"""Damaged filesystems, by files: a damaged source deletes nothing, a damaged clone is not called
complete or identical."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from lab import KIB, MIB, Lab, call, digest

pytestmark = pytest.mark.engine("files")


def source_with_files(lab: Lab, *options: str) -> Path:
    """A directory of several blocks, without checksums."""
    image = lab.image("source.img", 16 * MIB)
    call("mke2fs", "-q", "-t", "ext4", "-b", "1024", "-O", "^metadata_csum", *options, image)
    with lab.mounted(image) as root:
        (root / "folder").mkdir()
        for number in range(60):
            (root / "folder" / f"a-name-of-some-length-{number:03}").write_text(str(number))
        os.link(root / "folder" / "a-name-of-some-length-000", root / "second name")
    return image


def blocks_of(image: Path, name: str) -> list[int]:
    return [int(word) for word in call("debugfs", "-R", f"blocks {name}", image).split()]


def erase(image: Path, block: int) -> None:
    with image.open("r+b") as file:
        file.seek(block * KIB)
        file.write(bytes(KIB))


@pytest.mark.parametrize(
    "options", [("-O", "dir_index"), ("-O", "^dir_index,^extent,^64bit")], ids=str
)
def test_a_source_that_lost_names_deletes_nothing(lab: Lab, options: tuple[str, ...]) -> None:
    source, target = source_with_files(lab, *options), lab.image("target.img", 16 * MIB)
    lab.bsync("--yes", source, target)
    before = digest(target)
    erase(source, blocks_of(source, "/folder")[-1])
    run = lab.bsync("--yes", source, target, status=3)
    assert "damaged" in run.err
    assert "e2fsck -f" in run.err
    assert digest(target) == before


def test_a_directory_that_lost_its_size_deletes_nothing(lab: Lab) -> None:
    source, target = source_with_files(lab), lab.image("target.img", 16 * MIB)
    lab.bsync("--yes", source, target)
    call("debugfs", "-w", "-R", "sif /folder size 0", source)
    lab.bsync("--yes", source, target, status=3)


def test_a_damaged_clone_is_found_by_verify_and_not_completed(lab: Lab) -> None:
    source, target = source_with_files(lab), lab.image("target.img", 16 * MIB)
    lab.bsync("--yes", source, target)
    call("debugfs", "-w", "-R", "sif /folder/a-name-of-some-length-001 blocks 77", target)
    assert "damaged" in lab.bsync("verify", source, target, status=6).out
    with lab.mounted(source) as root:
        (root / "new").write_text("new")
    run = lab.bsync("--yes", source, target, status=5)
    assert "damaged" in run.err
    assert "incomplete" in lab.bsync("inspect", target).out


def test_a_fifo_in_the_place_of_a_file_with_holes_is_a_difference(lab: Lab) -> None:
    source, target = source_with_files(lab), lab.image("target.img", 16 * MIB)
    with lab.mounted(source) as root, (root / "holes").open("wb") as file:
        file.truncate(MIB)
        file.write(b"data")
    lab.bsync("--yes", source, target)
    with lab.mounted(target) as root:
        (root / "holes").unlink()
        os.mkfifo(root / "holes")
    assert "holes differs in contents" in lab.bsync("verify", source, target, status=6).out
    lab.bsync("--yes", "--checksum", source, target)
    lab.bsync("verify", source, target)
