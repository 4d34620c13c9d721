# SPDX-License-Identifier: GPL-2.0-only
"""The blocks engine: one filesystem cloned, or synchronised, by the blocks that it uses.

    fresh     every block in use is copied; the destination is blank
    compare   every block in use is compared, and copied where it differs
    changes   what the inode tables tell of is compared, and copied where it differs

The destination's superblock says that it is being written until all else is on the disk.
Whatever is written here is flushed before and after: other steps write to the same disk, perhaps
by another way (`Access.flush`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from bsync.blockio import pump
from bsync.blockio.pump import Work
from bsync.engines.blocks import bitmaps, changes, directories, reflink
from bsync.engines.blocks.changes import Changes
from bsync.engines.blocks.pair import Half, Pair, half
from bsync.engines.rsync import Transfer
from bsync.errors import Damaged
from bsync.filesystems.ext import blockwise, groups, rows, superblock
from bsync.filesystems.ext.make import tuning
from bsync.filesystems.ext.superblock import OFFSET, SIZE
from bsync.model import ranges
from bsync.model.ranges import Ranges
from bsync.plan.steps import Way

Advance = Callable[[int], None]

_NEAR = 64 << 10  # bytes of unused blocks that are copied rather than leapt over


class Copier:
    """One filesystem on its way."""

    def __init__(self, pair: Pair, way: Way) -> None:
        self._pair, self._way = pair, way
        self._changes: Changes | None = None
        self.idle = False  # nothing differs, so nothing is written
        self.notice = ""  # why it goes another way than planned, if so

    @property
    def _sb(self) -> superblock.Superblock:
        return self._pair.source.superblock

    @property
    def _files(self) -> int:
        """Inodes in use but for those of the filesystem's own."""
        return max(0, self._sb.used_inodes - rows.FIRST_ORDINARY + 1)

    def prepare(self) -> None:
        """Find what differs, where the inode tables can tell; nothing is written.

        Raises `CopyFailed`, and `Damaged` where the source cannot be relied on.
        """
        bitmaps.check(self._pair.source)
        clone = self._clone() if self._way is Way.CHANGES else None
        if clone is None or not changes.comparable(self._pair.source, clone):
            bitmaps.check_owned(self._pair.source)
            directories.check(self._pair.source)
            if self._way is Way.CHANGES:
                self._way = Way.COMPARE
                lies = "are damaged" if clone is None else "lie elsewhere than the source's"
                self.notice = f"tables of the clone {lies}: all blocks in use are compared"
            return
        found = changes.find(self._pair, clone)
        self._changes = found
        unchanged = found.only_growth if self._is_grown(clone) else not found
        self.idle = unchanged and self._alike(clone)

    def _clone(self) -> Half | None:
        """What is there, unless it is damaged: then nothing is believed of it."""
        try:
            return half(self._pair.destination)
        except Damaged:
            return None

    def _is_grown(self, clone: Half) -> bool:
        return clone.superblock.blocks > self._sb.blocks

    def _alike(self, clone: Half) -> bool:
        """Whether the superblocks say the same, but for what growing changed."""
        if not self._is_grown(clone):
            return blockwise.same(self._pair.source.raw, clone.raw)
        one, other = self._sb, clone.superblock
        grown = {"resize_inode", "large_file"}
        return (
            (one.uuid, one.label, one.features - grown, tuning(one))
            == (other.uuid, other.label, other.features - grown, tuning(other))
        )  # fmt: skip

    def before_writing(self, act: Callable[[], None]) -> None:
        """What is to happen before the first write, which is about to come."""
        act()

    def begin(self, *, always: bool = False) -> None:
        """Mark the destination, `always` or unless nothing differs.  Raises `CopyFailed`."""
        self.idle = self.idle and not always
        if not self.idle:
            self._write_superblock(blockwise.writing(self._pair.source.raw))

    # --- the copy -------------------------------------------------------------------------

    def copy(self, advance: Advance) -> Transfer:
        """Bring everything but the superblock.  Raises `CopyFailed`."""
        if self.idle:
            return Transfer()
        self._pair.destination.flush()
        done = self._copy(advance)
        self._pair.destination.flush()
        return done

    def _copy(self, advance: Advance) -> Transfer:
        if self._changes is not None:
            return self._synchronise(self._changes, advance)
        if self._way is Way.FRESH and reflink.share(self._pair):
            advance(self._sb.used)
            return Transfer(files=self._files)
        written = self._everything(advance)
        some = written or self._way is Way.FRESH
        return Transfer(files=self._files if some else 0, transferred=written)

    def _everything(self, advance: Advance) -> int:
        pair = self._pair
        ends = pair.source.access, pair.destination
        fresh = self._way is Way.FRESH
        work: Work = pump.copying(*ends) if fresh else pump.mending(*ends)
        gap = _NEAR // self._sb.block_size if fresh else 0
        return pump.run_all(bitmaps.runs(pair.source, gap), work, self._sb.block_size, advance)

    def _synchronise(self, found: Changes, advance: Advance) -> Transfer:
        """In any order: while the superblock says that it is being written, nobody mounts it."""
        pair, size = self._pair, self._sb.block_size
        replacing = pump.replacing(pair.source.access, pair.destination)
        written = pump.run_all(found.differing.pairs(), replacing, size)
        written += self._mend(found.doubtful, advance)
        return Transfer(files=found.files, transferred=written, deleted=found.deleted)

    def _mend(self, blocks: Ranges, advance: Advance | None = None) -> int:
        """Make these blocks the source's; the bytes written."""
        work = pump.mending(self._pair.source.access, self._pair.destination)
        return pump.run_all(blocks.pairs(), work, self._sb.block_size, advance)

    # --- the superblock -------------------------------------------------------------------

    def complete(self) -> None:
        """Write the boot block and the superblock, last.  Raises `CopyFailed`."""
        self._write_boot_block()
        self._write_superblock(self._pair.source.raw)

    def settle(self) -> None:
        """Make a marked filesystem of it, to be grown."""
        self._write_boot_block()
        self._write_superblock(blockwise.settling(self._pair.source.raw))

    def complete_grown(self) -> None:
        """Give all superblocks of the grown clone the source's names, the first one last."""
        access, source = self._pair.destination, self._pair.source.raw
        access.flush()  # of what its own tools wrote
        clone = half(access)
        if clone.superblock.blocks == self._sb.blocks:
            self._ungrow(clone)
            return
        grown = clone.superblock
        for group in range(grown.groups - 1, 0, -1):
            if groups.has_superblock(group, grown):
                at = (grown.first_data_block + group * grown.blocks_per_group) * grown.block_size
                access.put(at, blockwise.settled(access.bytes_at(at, SIZE), source))
        self._write_superblock(blockwise.settled(access.bytes_at(OFFSET, SIZE), source))

    def _ungrow(self, clone: Half) -> None:
        """What resize2fs left as large as it was is the source's in every block, as any clone."""
        self._mend(ranges.of_blocks(changes.grown_blocks(self._pair, clone)))
        self.complete()

    def _write_boot_block(self) -> None:
        access, data = self._pair.destination, self._pair.source.access.bytes_at(0, OFFSET)
        access.flush()
        if access.bytes_at(0, OFFSET) != data:
            access.put(0, data)
            access.flush()

    def _write_superblock(self, raw: bytes) -> None:
        access = self._pair.destination
        access.flush()
        access.put(OFFSET, raw)
        access.flush()


def same(pair: Pair, advance: Advance | None = None) -> bool:
    """Whether both sides hold the same in all blocks that the source uses.

    A clone that was grown differs in what growing changed.  Raises `CopyFailed`.
    """
    clone = half(pair.destination)
    grown = clone.superblock.blocks > pair.source.superblock.blocks
    spared = changes.grown_blocks(pair, clone) if grown else np.zeros(0, np.int64)
    return pair.same_in(bitmaps.runs(pair.source, 0), spared, advance)
