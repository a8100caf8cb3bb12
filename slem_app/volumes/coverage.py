"""Whether the sequences of a study, brought onto one grid, show the same part of the patient."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from slem_app.errors import BadGrid
from slem_app.result_warning import ResultWarning

__all__ = ["ONE_IMAGE", "compare", "cut", "twins"]

LEAST_AGREEMENT = 0.6  # Dice of two sequences' foregrounds under which they look out of register
LEAST_SHARED = 0.05  # share of the smaller of two foregrounds that must lie in the other
LEAST_APART = 0.02  # mean difference of two sequences' normalised intensities; the same image has 0
MOST_CUT = 0.15  # share of the brain that a sequence may lack; benchmarks/results/warnings.md

ONE_IMAGE = ResultWarning(
    "sequence-twice",
    "all sequences of this study are the same image, so at most one of them has the right name: nothing is "
    "segmented automatically; choose the right series, or remove those with a wrong name",
)


def cut(masks: Mapping[str, np.ndarray]) -> tuple[ResultWarning, ...]:
    """Warnings of sequences that lack much of the brain that others show."""
    brain = np.logical_or.reduce(list(masks.values()))
    lacking = {name: float((brain & ~mask).sum() / brain.sum()) for name, mask in masks.items()}
    text = (
        "{} does not show {:.0%} of the brain that other sequences show: a tumor there is segmented "
        "without it, or missed"
    )
    return tuple(
        ResultWarning("sequence-cut", text.format(name, share))
        for name, share in lacking.items()
        if share > MOST_CUT
    )


def twins(images: Mapping[str, np.ndarray]) -> tuple[ResultWarning, ...]:
    """Warnings of sequences that are one and the same image; `ONE_IMAGE` where three or more are all the
    same, as where a T1 was given for all four.

    Args:
        images: (I, J, K) by sequence, mean 0 and sd 1 in the foreground, 0 outside.
    """
    seen = {name: image[::2, ::2, ::2] for name, image in images.items()}
    same = []
    for first, second in combinations(seen, 2):
        inside = (seen[first] != 0) & (seen[second] != 0)
        if inside.any() and np.abs(seen[first][inside] - seen[second][inside]).mean() < LEAST_APART:
            same.append(f"{first} and {second}")
    if len(same) > 1 and len(same) == len(seen) * (len(seen) - 1) // 2:
        return (ONE_IMAGE,)
    text = f"{', '.join(same)} are the same image: one has the wrong name, so do not trust the result"
    return (ResultWarning("sequence-twice", text),) if same else ()


def compare(masks: Mapping[str, np.ndarray]) -> tuple[ResultWarning, ...]:
    """Warnings of sequences whose foregrounds differ from the first one's.

    Raises:
        BadGrid: heads that lie beside each other.
    """
    (first, mask), *others = masks.items()
    warnings = []
    for name, other in others:
        shared, sizes = int((mask & other).sum()), (int(mask.sum()), int(other.sum()))
        if shared < LEAST_SHARED * min(sizes):
            raise BadGrid(
                f"the sequences {first} and {name} hardly overlap ({shared / min(sizes):.0%} of the smaller "
                "foreground): they show different positions or patients; remove one, or register them "
                "first (--register)"
            )
        dice = 2 * shared / sum(sizes)
        if dice < LEAST_AGREEMENT:
            text = (
                f"{first} and {name} cover different tissue (Dice of their foregrounds {dice:.2f}): one may "
                f"be truncated, or --register may be needed"
            )
            warnings.append(ResultWarning("sequence-cut", text))
    return tuple(warnings)
