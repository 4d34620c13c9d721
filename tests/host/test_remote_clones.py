"""Whole clones to and from the LUNs of a real target, and images of other formats."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import MIB, Lab, call, digest
from loopback_target import serving
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
        assert "make ext4" in lab.bsync("plan", target.word, target_image).out
