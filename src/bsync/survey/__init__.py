"""`Device` → `Layout`: what is on it, by the system's own tools.  Changes nothing.

Damage is not an error here: what cannot be relied on is `Foreign` contents, named for what
is wrong with it, and the plan decides.
"""

from __future__ import annotations

from bsync.acquire.block import Device
from bsync.layout import BOOT_CODE, SIGNATURE_END, Bare, Extent, Foreign, Layout, Side
from bsync.survey.filesystem import content_of, signatures
from bsync.survey.table import BadTable, disk_of

_TABLES = ("dos", "gpt")
_PROTECTIVE = 0xEE  # the type of the MBR's entry that covers a whole GPT


def survey(device: Device) -> Side:
    """What is on `device`.  Raises `Unavailable` if it cannot be read at all."""
    return Side(device.word, device.description, _layout(device))


def _layout(device: Device) -> Layout:
    whole = Extent(0, device.size)
    found = signatures(device, whole)
    kind, table = found.get("TYPE", ""), found.get("PTTYPE", "")
    if table and kind:
        return _bare(device, Foreign(f"both {kind} and a {table} partition table"))
    if table == "gpt" and _is_hybrid(device):
        return _bare(device, Foreign("a gpt partition table with a hybrid MBR"))
    if table in _TABLES:
        try:
            return disk_of(device)
        except BadTable as error:
            return _bare(device, Foreign(f"a damaged {table} partition table ({error})"))
    if table:
        return _bare(device, Foreign(f"a {table} partition table"))
    return Bare(device.size, device.sector_size, content_of(device, whole, found))


def _is_hybrid(device: Device) -> bool:
    """Whether the MBR of a disk with a GPT has entries beside the protective one: they repeat
    partitions for old systems, and sfdisk neither shows nor writes them."""
    entries = device.read(0, SIGNATURE_END)[BOOT_CODE:-2]
    return any(kind not in (0, _PROTECTIVE) for kind in entries[4::16])


def _bare(device: Device, content: Foreign) -> Bare:
    return Bare(device.size, device.sector_size, content)
