# SPDX-License-Identifier: GPL-2.0-only
"""(source `Side`, destination `Side`, `Options`) → `Plan`, or a refusal.  Pure.

Nothing here reads or writes anything: `--dry-run` shows the very object that a run executes.
"""

from bsync.plan.planner import make_plan
from bsync.plan.steps import Options, Plan, Step

__all__ = ["Options", "Plan", "Step", "make_plan"]
