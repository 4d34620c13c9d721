# SPDX-License-Identifier: GPL-2.0-only
"""A source and its mirror, for tests of what a second run makes of changes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab import MIB, Lab
from trees import assert_same_tree


class Pair:
    """A source, its mirror, and the figures of each synchronisation."""

    def __init__(self, lab: Lab, size: int = 48 * MIB) -> None:
        self._lab = lab
        self.source, self.target = lab.image("source.img", size), lab.image("target.img", size)
        lab.make(self.source, None, "mke2fs", "-q", "-t", "ext4", "-I", "256", "-m", "0")

    @contextmanager
    def changing(self) -> Iterator[Path]:
        with self._lab.mounted(self.source) as tree:
            yield tree

    def synchronised(self, *options: str) -> tuple[int, int, int]:
        """Files, bytes and deletions that bsync reports; the mirror is one, and stays one."""
        figures = self._figures(*options)
        assert_same_tree(self._lab, self.source, self.target)
        self._lab.assert_clean(self.target)
        assert self._figures() == (0, 0, 0)
        return figures

    def _figures(self, *options: str) -> tuple[int, int, int]:
        text = self._lab.bsync(*options, "--json", self.source, self.target).out
        found = re.search(
            r'"event": "finished".*"transferred": (\d+), "files": (\d+), "deleted": (\d+)', text
        )
        assert found, text
        return int(found[2]), int(found[1]), int(found[3])
