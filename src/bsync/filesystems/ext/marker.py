# SPDX-License-Identifier: GPL-2.0-only
"""The marker of an incomplete clone, on an ext filesystem.  Pure: arguments of tune2fs.

With metadata_csum every checksum is seeded with the UUID.  The seed is kept in the
superblock (metadata_csum_seed) for as long as the marker lasts, so that neither marking nor
completing rewrites any metadata: each is one write of the superblock.
"""

from __future__ import annotations

from bsync.filesystems.ext.superblock import Superblock
from bsync.filesystems.marker import LABEL as LABEL
from bsync.filesystems.marker import is_incomplete_clone as is_incomplete_clone
from bsync.filesystems.marker import is_marked as is_marked
from bsync.filesystems.marker import marker_uuid as marker_uuid

_SEED = "metadata_csum_seed"


def marking(source: Superblock, present: Superblock) -> list[str]:
    """tune2fs options that mark `present` as an incomplete clone of `source`."""
    unseeded = "metadata_csum" in present.features and _SEED not in present.features
    seed = ["-O", _SEED] if unseeded else []
    return ["-L", LABEL, *seed, "-U", marker_uuid(source.uuid)]


def completing(source: Superblock, present: Superblock) -> list[list[str]]:
    """tune2fs options, one call each, that take the marker from `present`.

    The UUID comes back first; only then is the seed again what the UUID gives.  The label
    goes last: whatever interrupts this leaves a filesystem that still says it is incomplete.
    """
    seeded_by_us = _SEED in present.features and _SEED not in source.features
    unseed = [["-O", f"^{_SEED}"]] if seeded_by_us else []
    return [["-U", source.uuid], *unseed, ["-L", source.label]]
