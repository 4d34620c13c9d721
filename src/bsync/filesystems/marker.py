# SPDX-License-Identifier: GPL-2.0-only
"""The marker of an incomplete clone.  Pure.

While a clone is being written, its filesystem carries another UUID, derived from the
source's, and the label `bsync-incomplete` (just the 16 bytes that a label may have).  So
it cannot be found, mounted or booted as the source, everybody sees what it is, and the
next run knows whose incomplete clone it is and completes it.
"""

from __future__ import annotations

import uuid
from typing import Protocol

LABEL = "bsync-incomplete"
SHORT_LABEL = LABEL[:12]  # where labels have 12 bytes
_NAMESPACE = uuid.UUID("5d3cf1e0-9f0c-5d0e-8a62-62a1f07d6c11")


class Named(Protocol):
    """A filesystem, as it is found by name."""

    @property
    def uuid(self) -> str: ...
    @property
    def label(self) -> str: ...


def marker_uuid(source_uuid: str) -> str:
    """The UUID of an incomplete clone of the filesystem with `source_uuid`."""
    return str(uuid.uuid5(_NAMESPACE, source_uuid))


def is_marked(found: Named) -> bool:
    """Whether `found` is an incomplete clone of anything."""
    return found.label in (LABEL, SHORT_LABEL)


def is_incomplete_clone(found: Named, source: Named) -> bool:
    """Whether `found` is an incomplete clone of `source`."""
    return is_marked(found) and found.uuid in (source.uuid, marker_uuid(source.uuid))
