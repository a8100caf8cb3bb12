"""How the learning goes, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["progress"]

RUNS = "RUNNING"


def progress(info: Mapping[str, Any]) -> tuple[str, bool]:
    """A line for each model that was trained here, and whether one is being trained.

    Args:
        info: what `/info/` tells.
    """
    lines, runs = [], False
    for model, stats in info.get("train_stats", {}).items():
        status = str(stats.get("status") or "")
        runs = runs or status == RUNS
        if not status:
            continue
        share = f"epoch {stats.get('epoch', 0)} of {stats.get('total_epochs', 0)}"
        best = f"best {stats.get('best_metric', 0):.2f}"
        reason = f": {stats['reason']}" if stats.get("reason") else ""
        lines.append(f"{model}: {status.lower()}, {share}, {best}{reason}")
    return "\n".join(lines) or "Nothing was learnt here yet.", runs
