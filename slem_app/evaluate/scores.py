"""How good a segmentation is: overlap, volume and surfaces of each region, bootstrap intervals over cases."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from slem_app.errors import BadGrid
from slem_app.labels import LabelSet
from slem_app.types import Grid
from slem_app.volumes.geometry import bounding_box

__all__ = ["bootstrap", "dice", "hausdorff95", "region_scores", "surface_distances", "volume_difference"]


def dice(a: np.ndarray, b: np.ndarray) -> float:
    """Dice of two masks; 1 if both are empty (BraTS's rule), 0 if one is."""
    total = int(a.sum()) + int(b.sum())
    return 2 * int((a & b).sum()) / total if total else 1.0


def hausdorff95(a: np.ndarray, b: np.ndarray, spacing: Sequence[float] | np.ndarray) -> float:
    """95 % symmetric Hausdorff distance in mm, by MONAI; 0 if both masks are empty, 374 (a BraTS volume's
    diagonal) if one is.
    """
    if not a.any() or not b.any():
        return 0.0 if a.any() == b.any() else 374.0
    from monai.metrics import compute_hausdorff_distance  # takes seconds to import, used by evaluation alone

    mine, other = _cropped(a, b)
    with _quiet():
        return float(
            compute_hausdorff_distance(
                mine, other, include_background=True, percentile=95, spacing=list(spacing)
            )
        )


def surface_distances(
    a: np.ndarray, b: np.ndarray, spacing: Sequence[float] | np.ndarray
) -> tuple[float, float]:
    """Average and maximum symmetric surface distance in mm, by MONAI; (0, 0) if both masks are empty,
    infinite if one is.
    """
    if not a.any() or not b.any():
        return (0.0, 0.0) if a.any() == b.any() else (float("inf"), float("inf"))
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    mine, other = _cropped(a, b)
    with _quiet():
        average = compute_average_surface_distance(
            mine, other, include_background=True, symmetric=True, spacing=list(spacing)
        )
        largest = compute_hausdorff_distance(mine, other, include_background=True, spacing=list(spacing))
    return float(average), float(largest)


def volume_difference(predicted: np.ndarray, expected: np.ndarray) -> float:
    """Relative absolute volume difference in %; 0 if both masks are empty, infinite if the expected one alone
    is.
    """
    mine, right = int(predicted.sum()), int(expected.sum())
    if not right:
        return 0.0 if not mine else float("inf")
    return 100 * abs(mine - right) / right


def _cropped(a: np.ndarray, b: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Two masks as (1, 1, I, J, K), without what is empty in both."""
    box = bounding_box(a | b)
    mine, other = (torch.from_numpy(np.pad(mask[box], 1))[None, None] for mask in (a, b))
    return mine, other


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        # MONAI 1.5 and 1.6 warn of a call of their own
        warnings.filterwarnings("ignore", "monai.metrics.utils get_mask_edges", FutureWarning)
        yield


def region_scores(
    predicted: np.ndarray, expected: np.ndarray, grid: Grid, labels: LabelSet, surface: bool = True
) -> dict[str, float]:
    """Scores of one case.

    Args:
        predicted: (I, J, K) label map in the model's values.
        expected: the same, the truth.
        grid: of both.
        labels: the model's.
        surface: also hd95, which takes longer.

    Returns:
        {'WT': Dice, ..., 'hd95_WT': mm, ...}.

    Raises:
        BadGrid: unlike shapes.
    """
    if predicted.shape != expected.shape:
        raise BadGrid(
            f"the prediction has {predicted.shape} voxels, the truth {expected.shape}: bring them to one "
            f"grid first"
        )
    pairs = list(
        zip(labels.regions, labels.region_masks(predicted), labels.region_masks(expected), strict=True)
    )
    scores = {region.name: dice(p, t) for region, p, t in pairs}
    if surface:
        scores |= {f"hd95_{region.name}": hausdorff95(p, t, grid.spacing) for region, p, t in pairs}
    return scores


def bootstrap(values: Sequence[float], seed: int = 0, draws: int = 10_000) -> Mapping[str, float]:
    """Mean, sd and the bootstrap 95 % interval of the mean over cases: {'mean', 'sd', 'low', 'high'}."""
    array = np.asarray(values, dtype=np.float64)
    means = array[np.random.default_rng(seed).integers(len(array), size=(draws, len(array)))].mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "mean": float(array.mean()),
        "sd": float(array.std(ddof=1)) if len(array) > 1 else 0.0,
        "low": float(low),
        "high": float(high),
    }
