"""The mark of an incomplete mirror, on an ext filesystem.  Pure: names and arguments.

While a mirror is being written, its filesystem carries another UUID, derived from the
source's, and the label `bsync-incomplete` (just the 16 bytes that a label may have).  So
it cannot be found, mounted or booted as the source, everybody sees what it is, and the
next run knows whose unfinished mirror it is and completes it.

With metadata_csum every checksum is seeded with the UUID.  The seed is kept in the
superblock (metadata_csum_seed) for as long as the mark lasts, so that neither marking nor
completing rewrites any metadata: each is one write of the superblock.
"""

from __future__ import annotations

import uuid

from bsync.filesystems.ext.superblock import Superblock

LABEL = "bsync-incomplete"
_SEED = "metadata_csum_seed"
_NAMESPACE = uuid.UUID("5d3cf1e0-9f0c-5d0e-8a62-62a1f07d6c11")


def marker_uuid(source_uuid: str) -> str:
    """The UUID of an unfinished mirror of the filesystem with `source_uuid`."""
    return str(uuid.uuid5(_NAMESPACE, source_uuid))


def is_marked(sb: Superblock) -> bool:
    """Whether `sb` belongs to an unfinished mirror of anything."""
    return sb.label == LABEL


def is_unfinished_mirror(sb: Superblock, source: Superblock) -> bool:
    """Whether `sb` belongs to an unfinished mirror of `source`."""
    return is_marked(sb) and sb.uuid in (source.uuid, marker_uuid(source.uuid))


def marking(source: Superblock, present: Superblock) -> list[str]:
    """tune2fs options that mark `present` as an unfinished mirror of `source`."""
    unseeded = "metadata_csum" in present.features and _SEED not in present.features
    seed = ["-O", _SEED] if unseeded else []
    return ["-L", LABEL, *seed, "-U", marker_uuid(source.uuid)]


def completing(source: Superblock, present: Superblock) -> list[list[str]]:
    """tune2fs options, one call each, that take the mark from `present`.

    The UUID comes back first; only then is the seed again what the UUID gives.  The label
    goes last: whatever interrupts this leaves a filesystem that still says it is incomplete.
    """
    seeded_by_us = _SEED in present.features and _SEED not in source.features
    unseed = [["-O", f"^{_SEED}"]] if seeded_by_us else []
    return [["-U", source.uuid], *unseed, ["-L", source.label]]
