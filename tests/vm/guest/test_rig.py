# SPDX-License-Identifier: GPL-2.0-only
"""The control of this tier: the rig's own parts work, and it sees what is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from lab import MIB, call
from rig import Rig
from targets import Chap, LioTarget, Lun, TgtTarget, served
from volumes import volume_group

Kind = type[TgtTarget | LioTarget]
KINDS = pytest.mark.parametrize("kind", [TgtTarget, LioTarget])
IN, OUT = Chap("guest", "twelve letters"), Chap("target", "letters, twelve")


def test_each_disk_is_found_by_its_serial(rig: Rig) -> None:
    disks = [rig.disk(number) for number in range(3)]
    assert len(set(disks)) == 3
    for number, device in enumerate(disks):
        assert Path(f"/dev/disk/by-id/virtio-disk{number}").resolve() == Path(device)


def test_classic_and_thin_volumes(rig: Rig) -> None:
    with volume_group(rig.disk(0), rig.disk(1)) as group:
        classic = group.linear("data", "100M")
        thin = group.thin(group.pool("pool", "200M"), "thin", "1G")
        for device in (classic, thin):
            call("mke2fs", "-q", device)
            rig.assert_clean_device(device)
        call("lvcreate", "-qq", "-s", "-L", "20M", "--addtag", "bsync_run", "-n", "s", classic)
        assert group.volumes()["s"] == ("bsync_run",)
        assert rig.left() == ["logical volume vg0/s"]
        call("lvremove", "-qq", "--yes", "vg0/s")


@KINDS
@pytest.mark.parametrize(("chap", "mutual"), [(None, None), (IN, None), (IN, OUT)])
def test_a_target_serves_its_disks(
    rig: Rig, kind: Kind, chap: Chap | None, mutual: Chap | None
) -> None:
    first, second = (rig.image(f"{name}.img", 32 * MIB) for name in ("first", "second"))
    first.write_bytes(b"first" * 1000 + bytes(MIB))
    luns = [Lun(first), Lun(second, read_only=True)]
    with (
        served(kind(luns, chap=chap, mutual=mutual)) as target,
        rig.logged_in(target) as disks,
    ):
        one, other = (disks[target.number(index)] for index in range(2))
        with Path(one).open("rb") as device:
            assert device.read(5) == b"first"
        assert call("blockdev", "--getro", one, other).split() == ["0", "1"]


@KINDS
def test_a_wrong_password_is_not_let_in(rig: Rig, kind: Kind) -> None:
    target = kind([Lun(rig.image("disk.img", MIB))], chap=IN)
    with served(target):
        target.chap = Chap(IN.user, "quite another")
        with pytest.raises(AssertionError, match=r"authoriz|authent"), rig.logged_in(target):
            pass


def test_what_is_left_behind_is_seen(rig: Rig) -> None:
    image = rig.image("left.img", MIB)
    seen = r"left behind: .*loop .*left\.img"
    with rig.attached(image), pytest.raises(AssertionError, match=seen):
        rig.assert_nothing_left(seconds=0.5)
