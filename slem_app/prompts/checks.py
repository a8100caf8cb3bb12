"""Labels and voxel indices in prompts: what they stand for, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from slem_app.errors import BadPrompt
from slem_app.labels import LabelSet
from slem_app.types import Grid, triple

__all__ = ["check_label", "check_reach", "map_value", "size_of", "whole_index"]


def map_value(label: str, labels: LabelSet) -> int:
    """What stands for a prompt's label in a label map: the label's value, 0 for BACKGROUND.

    Raises:
        BadLabel: no such label.
    """
    return labels.value(label) if label else 0


def check_label(label: str, labels: LabelSet, what: str) -> None:
    """Refuse an unknown label name.

    Raises:
        BadPrompt: the model does not have it.
    """
    if label not in labels.names:
        raise BadPrompt(f"{what} names the unknown label {label!r}: this model has {', '.join(labels.names)}")


def check_reach(value: object, what: str) -> float:
    """How far the answer to a prompt goes, from -1 (what the editor is surest of) over 0 (as it comes) to 1.

    Raises:
        BadPrompt: no number, or another one.
    """
    if isinstance(value, int | float) and not isinstance(value, bool) and -1 <= value <= 1:
        return float(value)
    raise BadPrompt(
        f"the reach of {what} is {str(value)[:80]!r}: a number from -1 (less) to 1 (more) is needed"
    )


def whole_index(index: object, what: str, grid: Grid) -> tuple[int, int, int]:
    """Three whole numbers.

    Raises:
        BadPrompt: anything else, e.g. NaN.
    """
    values = list(index) if isinstance(index, Sequence | np.ndarray) and not isinstance(index, str) else []
    if len(values) != 3 or not all(_is_whole(value) for value in values):
        raise BadPrompt(
            f"{what} is {index!r}: three whole numbers are needed, I, J, K of a voxel of the image of "
            f"{size_of(grid)} voxels"
        )
    return triple(int(v) for v in values)


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, Real):
        return False
    return math.isfinite(value) and value == int(value)  # type: ignore[call-overload]  # Real has no __int__


def size_of(grid: Grid) -> str:
    """The voxels of an image along its axes, for messages: '240x240x155'."""
    return "x".join(map(str, grid.shape))
