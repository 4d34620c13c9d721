# SPDX-License-Identifier: GPL-2.0-only
"""The grammar of device names."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bsync.errors import Usage
from bsync.locate import (
    IMAGE_FORMATS,
    DevicePath,
    ImageFile,
    IscsiLun,
    Locator,
    LoopFile,
    LvmSnapshot,
    NbdExport,
    parse,
)

IQN = "iqn.2004-10.org.example:disk"

GOOD: list[tuple[str, Locator]] = [
    ("/dev/sda", DevicePath("/dev/sda")),
    ("disk.img", DevicePath("disk.img")),
    ("a b/ä:c", DevicePath("a b/ä:c")),
    ("C:/x", DevicePath("C:/x")),
    ("-", DevicePath("-")),
    ("clone:/x", DevicePath("clone:/x")),
    ("./loop:x", DevicePath("./loop:x")),
    ("/a//b://c", DevicePath("/a//b://c")),
    ("\udcff\n", DevicePath("\udcff\n")),
    ("loop:///var/disk.img", LoopFile("/var/disk.img")),
    ("loop://disk.img", LoopFile("disk.img")),
    ("loop:///dev/sda", LoopFile("/dev/sda")),
    ("loop://a%20b", LoopFile("a%20b")),
    ("loop://loop://x", LoopFile("loop://x")),
    ("loop://x\ny", LoopFile("x\ny")),
    (f"iscsi://host/{IQN}", IscsiLun("host", IQN)),
    (f"iscsi://host:3261/{IQN}/0", IscsiLun("host", IQN, 3261, 0)),
    (f"iscsi://10.0.0.1/{IQN}/7", IscsiLun("10.0.0.1", IQN, lun=7)),
    (f"iscsi://[fe80::1]/{IQN}", IscsiLun("fe80::1", IQN)),
    (f"iscsi://[fe80::1%eth0]:860/{IQN}", IscsiLun("fe80::1%eth0", IQN, 860)),
    (f"iscsi://[::ffff:10.0.0.1]/{IQN}", IscsiLun("::ffff:10.0.0.1", IQN)),
    (f"iscsi://me@host/{IQN}", IscsiLun("host", IQN, user="me")),
    (f"iscsi://a%40b%3ac%2Fd@host/{IQN}/1", IscsiLun("host", IQN, lun=1, user="a@b:c/d")),
    (f"iscsi://j%C3%BCrg@[::1]:1/{IQN}", IscsiLun("::1", IQN, 1, user="jürg")),
    *((f"iscsi://h/{name}/2", IscsiLun("h", name, lun=2)) for name in (
        "iqn.2000-01.com.synology:DS923.Target-1", "iqn.2004-04.com.qnap:ts-453be:iscsi.vm_1.0aB",
        "iqn.1992-08.com.netapp:sn.4F2e:vs.3", "IQN.2004-10.ORG.example:Disk",
        "iqn.2001-05.com.x_y", "iqn.2003-01.org.example:größe", "EUI.02004567A425678D",
        "naa.52004567BA64678D",
    )),
    ("iscsi://h/eui.02004567a425678d/16383", IscsiLun("h", "eui.02004567a425678d", lun=16383)),
    ("iscsi://h/naa.52004567ba64678d", IscsiLun("h", "naa.52004567ba64678d")),
    ("iscsi://a.b-c_d.example.:65535/iqn.2001-04.com.x", IscsiLun(
        "a.b-c_d.example.", "iqn.2001-04.com.x", 65535)),
    ("lvm+snapshot://vg/lv", LvmSnapshot("vg", "lv")),
    ("lvm+snapshot://vg-1/root.old", LvmSnapshot("vg-1", "root.old")),
    ("lvm+snapshot://+a/_b", LvmSnapshot("+a", "_b")),
    ("qcow2:///var/a b.qcow2", ImageFile("qcow2", "/var/a b.qcow2")),
    ("vmdk://disk.vmdk", ImageFile("vmdk", "disk.vmdk")),
    ("vhdx://%20", ImageFile("vhdx", "%20")),
    ("nbd://host", NbdExport("", "host")),
    ("nbd://host/", NbdExport("", "host")),
    ("nbd://10.0.0.1:1/a/b", NbdExport("a/b", "10.0.0.1", 1)),
    ("nbd://[::1]/%C3%A4%3F%25", NbdExport("\u00e4?%", "::1")),
    ("nbd+unix:///?socket=/run/a+b%20c", NbdExport("", port=0, socket="/run/a+b c")),
    ("nbd+unix:///disk?socket=s%FF", NbdExport("disk", port=0, socket="s\udcff")),
]  # fmt: skip

BAD = [
    "",
    "a\0b",
    "loop://",
    "loop://\0",
    "nbds://host/disk",
    "nbd://",
    "nbd:///disk",
    "nbd://me@host/disk",
    "nbd://host:0/disk",
    "nbd://host/disk?x=y",
    "nbd://host/%ff",
    "nbd://host/%00",
    "nbd://host/" + "x" * 4097,
    "nbd+unix:///disk",
    "nbd+unix:///disk?socket=",
    "nbd+unix:///disk?socket=%00",
    "nbd+unix:///disk?port=1",
    "nbd+unix://host/disk?socket=/s",
    "qcow2://",
    "raw://x",
    "loop:x",
    "loop:/x",
    "qcow2:x",
    "LOOP://x",
    "iscsis://host/x",
    "x+y://z",
    "iscsi://",
    "iscsi://host",
    "iscsi://host/",
    f"iscsi:///{IQN}",
    f"iscsi://:3260/{IQN}",
    f"iscsi://host:/{IQN}",
    f"iscsi://host:0/{IQN}",
    f"iscsi://host:65536/{IQN}",
    f"iscsi://host:123456/{IQN}",
    f"iscsi://host:x/{IQN}",
    f"iscsi://ho st/{IQN}",
    f"iscsi://-host/{IQN}",
    f"iscsi://fe80::1/{IQN}",
    f"iscsi://[fe80::1/{IQN}",
    f"iscsi://[]/{IQN}",
    f"iscsi://[:::]/{IQN}",
    f"iscsi://[1::2::3]/{IQN}",
    f"iscsi://[host]/{IQN}",
    f"iscsi://[::1]x/{IQN}",
    f"iscsi://@host/{IQN}",
    f"iscsi://%00@host/{IQN}",
    f"iscsi://%ff@host/{IQN}",
    f"iscsi://\udcff@host/{IQN}",
    "iscsi://host/disk",
    "iscsi://host/iqn.2004.org:x",
    "iscsi://host/iqn.2004-10.org:" + "x" * 224,
    "iscsi://host/eui.123",
    f"iscsi://host/{IQN}/",
    f"iscsi://host/{IQN}/-1",
    f"iscsi://host/{IQN}/16384",
    f"iscsi://host/{IQN}/x",
    f"iscsi://host/{IQN}/1/2",
    f"iscsi://host/{IQN}/\u0661",
    "lvm+snapshot://",
    "lvm+snapshot://vg",
    "lvm+snapshot://vg/",
    "lvm+snapshot:///lv",
    "lvm+snapshot://vg/lv/x",
    "lvm+snapshot://../lv",
    "lvm+snapshot://vg/.",
    "lvm+snapshot://-vg/lv",
    "lvm+snapshot://vg/l v",
    "lvm+snapshot://vg/lv\n",
]  # fmt: skip


@pytest.mark.parametrize(("word", "locator"), GOOD)
def test_good_words(word: str, locator: Locator) -> None:
    assert parse(word) == locator
    assert parse(str(locator)) == locator


@pytest.mark.parametrize("word", BAD)
def test_bad_words(word: str) -> None:
    with pytest.raises(Usage):
        parse(word)


@pytest.mark.parametrize(
    "word",
    [
        f"iscsi://me:s3cret@host/{IQN}",
        f"iscsi://me:s3cr/et@host/{IQN}",
        f"iscsi://:s3cret@host/{IQN}",
        "iscsi://me:s3cret@host/nonsense",
        "iscsis://me:s3cret@host/x",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_repeated(word: str) -> None:
    with pytest.raises(Usage) as caught:
        parse(word)
    said = f"{caught.value.message} {caught.value.hint}"
    assert "s3cr" not in said


_NAME = st.from_regex(r"[A-Za-z0-9+_][A-Za-z0-9+_.-]{0,20}", fullmatch=True)
_HOST = st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,20}[A-Za-z0-9])?", fullmatch=True)
_TARGET = st.one_of(
    st.from_regex(
        r"iqn\.[0-9]{4}-[0-9]{2}\.[a-z0-9.-]{1,40}(:[a-z0-9.:_-]{1,40})?", fullmatch=True
    ),
    st.from_regex(r"eui\.[0-9a-f]{16}|naa\.[0-9a-f]{32}", fullmatch=True),
)
# The name that Hypothesis of Debian 12 has for it, too.
_PRINTABLE = st.text(st.characters(blacklist_categories=("C", "Z")), min_size=1)
_PATH = st.text(min_size=1).filter(lambda path: "\0" not in path)
_EXPORT = st.text(max_size=1000).filter(lambda name: "\0" not in name)
_LOCATORS: st.SearchStrategy[Locator] = st.one_of(
    st.builds(
        IscsiLun,
        st.one_of(_HOST, st.ip_addresses(v=6).map(str), st.ip_addresses(v=4).map(str)),
        _TARGET,
        st.integers(1, 65535),
        st.one_of(st.none(), st.integers(0, 16383)),
        st.one_of(st.none(), _PRINTABLE),
    ),
    st.builds(LvmSnapshot, _NAME, _NAME),
    st.builds(ImageFile, st.sampled_from(IMAGE_FORMATS), _PATH),
    st.builds(NbdExport, _EXPORT, _HOST, st.integers(1, 65535)),
    st.builds(NbdExport, _EXPORT, port=st.just(0), socket=_PATH),
    st.builds(LoopFile, st.text(min_size=1).filter(lambda path: "\0" not in path)),
    st.builds(
        DevicePath, st.text(min_size=1).filter(lambda path: "\0" not in path and "://" not in path)
    ),
)


@given(_LOCATORS)
@settings(max_examples=500)
def test_what_is_written_is_read_again(locator: Locator) -> None:
    assert parse(str(locator)) == locator


_PIECES = st.sampled_from(
    ["iscsi://", "loop://", "lvm+snapshot://", "nbd://", "nbd+unix://",
     "vmdk://", "?socket=", "/", ":", "@", "[", "]", "%", "::1", IQN, "3260",
     "host", "\udcff", "\n", "\0", "%00", "iqn.", "..", "-", "٣", "\u212a"]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(st.one_of(_PIECES, st.text(max_size=3))).map("".join)))
@settings(max_examples=1500)
@example("iscsi://\udc80@h/" + IQN)
def test_any_text_is_a_locator_or_wrong_usage(word: str) -> None:
    try:
        locator = parse(word)
    except Usage:
        return
    assert parse(str(locator)) == locator


@pytest.mark.parametrize(
    ("word", "hint"),
    [("lvm://vg/lv", "did you mean lvm+snapshot://?"), ("lopp://x", "did you mean loop://?"),
     ("LOOP://x", "did you mean loop://?"), ("qcow://x", "did you mean qcow2://?"),
     ("vhd://x", "did you mean vpc://?"), ("iscsis://me:secret@h/x", "did you mean iscsi://?"),
     ("file:///x", "the path alone"), ("loop:x", "loop://"), ("zzz://x", "known are iscsi://")],
)  # fmt: skip
def test_what_scheme_was_meant(word: str, hint: str) -> None:
    with pytest.raises(Usage) as error:
        parse(word)
    assert hint in error.value.hint
    assert "secret" not in error.value.message + error.value.hint
