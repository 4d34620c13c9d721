"""Swap areas: made with mkswap, never copied.  Pure: arguments only."""

from __future__ import annotations

from bsync.layout import Swap

HIBERNATED = "swsuspend"  # what blkid calls a swap area that holds a hibernation image


def mkswap_arguments(source: Swap, device: str) -> list[str]:
    """The command that makes `device` a swap area with the source's UUID and label."""
    label = ["--label", source.label] if source.label else []
    return ["mkswap", "--force", "--uuid", source.uuid or "clear", *label, device]
