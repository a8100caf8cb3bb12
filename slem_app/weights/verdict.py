"""Whether a candidate takes the place of the version that is served."""

from __future__ import annotations

import math
from collections.abc import Mapping

__all__ = ["POLICIES", "verdict"]

POLICIES = {
    "better": "a candidate is served if it is not worse on the hold-out",
    "always": "every candidate is served",
    "never": "candidates are kept apart for a person to choose",
}


def verdict(
    figures: Mapping[str, float],
    before: Mapping[str, float],
    metric: str,
    tolerance: float,
    policy: str,
    parent: int,
    served: int,
) -> tuple[bool, str]:
    """Whether a candidate may be served, and why.

    Args:
        figures: of the candidate on the hold-out, by name; empty where none is held out.
        before: the same of the version that is served.
        metric: name of the figure that decides.
        tolerance: how much less it may be.
        policy: one of `POLICIES`.
        parent: number of the version that the candidate was trained from.
        served: number of the version that is served.
    """
    if parent != served:
        return (
            False,
            (
                f"refused: it was trained from version {parent} and compared with it, but meanwhile version "
                f"{served} is served: train again"
            ),
        )
    if bad := [name for name, value in {**before, **figures}.items() if not math.isfinite(value)]:
        return False, f"refused: {', '.join(bad)} is not a number"
    measured = metric in figures and metric in before
    told = (
        f"{metric} {figures[metric]:.4f} on the hold-out, version {served} has {before[metric]:.4f}"
        if measured
        else "no labelled case is held out"
    )
    if policy == "always":
        return True, f"{told}; every model is published here"
    if policy == "never":
        return (
            False,
            (
                f"kept apart: {told}; no model is published by itself here: choose with `slem models` and "
                f"`slem publish`"
            ),
        )
    if not measured:
        return (
            False,
            (
                f"refused: {told}, so it cannot be compared with version {served}: label more cases, or "
                f"choose it yourself with `slem publish`"
            ),
        )
    if figures[metric] < before[metric] - tolerance:
        return False, f"refused: {told}" + (f", and only {tolerance:g} less is allowed" if tolerance else "")
    return True, told
