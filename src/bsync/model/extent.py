# SPDX-License-Identifier: GPL-2.0-only
"""A range of a device.  Pure; sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Extent:
    """A range of a device."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size

    def overlaps(self, other: Extent) -> bool:
        """Whether both have a byte in common."""
        return self.start < other.end and other.start < self.end and self.size * other.size > 0
