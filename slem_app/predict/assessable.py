"""What a result may claim with the sequences that a case has: no enhancement without a T1 after contrast, no
edema without T2 or FLAIR.

A network answers whatever it is given; these two answers would be read as findings. Measurements of accuracy
look at the network itself and do not come by here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from slem_app.predict.predictor import Prediction

__all__ = ["NEEDS", "Need", "assessed"]


@dataclass(frozen=True)
class Need:
    """What must have been seen for a label to be told from others."""

    sequences: tuple[str, ...]
    """One of them suffices."""
    instead: str
    """The label that its voxels get without; empty: none."""
    says: str
    """For a reader."""


NEEDS: Mapping[str, Need] = {
    "enhancing tumor": Need(
        ("t1c",),
        "necrosis",
        "enhancement cannot be assessed without a T1 after contrast (t1c): tumor core is given as one label, "
        "necrosis, whether it enhances or not",
    ),
    "edema": Need(
        ("t2f", "t2w"),
        "",
        "edema cannot be assessed without FLAIR or T2 (t2f, t2w): none is given, and the whole tumor is not "
        "measured",
    ),
}
"""Label -> its need."""


def assessed(prediction: Prediction) -> Prediction:
    """The prediction without labels that its sequences cannot show; notes and `not_assessable` say which.

    A label is held back only by a model that knows one of the sequences it needs.

    Args:
        prediction: as the network gave it.
    """
    known = {*prediction.used, *prediction.missing}
    names = prediction.labels.names
    lost = {
        name: need
        for name, need in NEEDS.items()
        if name in names and known & {*need.sequences} and not {*need.sequences} & {*prediction.used}
    }
    if not lost:
        return prediction
    table = np.arange(max(label.value for label in prediction.labels.labels) + 1, dtype=np.uint8)
    for name, need in lost.items():
        table[prediction.labels.value(name)] = (
            prediction.labels.value(need.instead) if need.instead in names else 0
        )
    return replace(
        prediction,
        array=table[prediction.array],
        notes=(*(need.says for need in lost.values()), *prediction.notes),
        not_assessable=tuple(lost),
        unmeasured=_unmeasured(prediction, lost),
    )


def _unmeasured(prediction: Prediction, lost: Mapping[str, Need]) -> tuple[str, ...]:
    """Labels and regions whose millilitres would mislead: those lost, and regions that lost a part."""
    regions = [
        region.name
        for region in prediction.labels.regions
        if any(name in region.labels and need.instead not in region.labels for name, need in lost.items())
    ]
    return (*lost, *regions)
