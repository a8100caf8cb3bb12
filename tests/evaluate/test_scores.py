"""Scores against numbers worked out by hand."""

import numpy as np
import pytest

from slem_app.errors import BadGrid
from slem_app.evaluate.scores import bootstrap, dice, hausdorff95, region_scores
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS


def block(low: int, high: int) -> np.ndarray:
    mask = np.zeros((20, 12, 12), bool)
    mask[low:high, 4:8, 4:8] = True
    return mask


def test_dice_by_hand_and_of_empty_masks():
    assert dice(block(4, 8), block(6, 10)) == 0.5
    assert dice(block(4, 8), block(4, 8)) == 1
    assert dice(block(0, 0), block(0, 0)) == 1
    assert dice(block(0, 0), block(4, 8)) == 0


def test_hausdorff_of_a_shift_is_the_shift_in_mm():
    assert hausdorff95(block(4, 8), block(7, 11), (2.0, 1.0, 1.0)) == pytest.approx(6.0)
    assert hausdorff95(block(4, 8), block(4, 8), (2.0, 1.0, 1.0)) == 0
    # at the border of the image
    assert hausdorff95(block(0, 2), block(0, 3), (1.0, 1.0, 1.0)) == pytest.approx(1.0)


def test_hausdorff_of_empty_masks():
    assert hausdorff95(block(0, 0), block(0, 0), (1, 1, 1)) == 0
    assert hausdorff95(block(0, 0), block(4, 8), (1, 1, 1)) == 374


def test_regions_of_a_label_map():
    truth = np.zeros((6, 6, 6), np.uint8)
    truth[1:5, 1:5, 1:5] = 2
    truth[2:4, 2:4, 2:4] = 3
    predicted = truth.copy()
    predicted[predicted == 3] = 1
    scores = region_scores(predicted, truth, Grid(truth.shape, np.eye(4)), BRAIN_LABELS)
    assert scores == {"WT": 1, "TC": 1, "ET": 0, "hd95_WT": 0, "hd95_TC": 0, "hd95_ET": 374}
    assert set(
        region_scores(predicted, truth, Grid(truth.shape, np.eye(4)), BRAIN_LABELS, surface=False)
    ) == {"WT", "TC", "ET"}


def test_unlike_shapes_are_refused():
    with pytest.raises(BadGrid, match=r"\(2, 2, 2\) voxels, the truth \(2, 2, 3\)"):
        region_scores(
            np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int), Grid((2, 2, 2), np.eye(4)), BRAIN_LABELS
        )


def test_bootstrap_holds_the_mean_and_repeats():
    values = [0.1, 0.5, 0.6, 0.9]
    one = bootstrap(values)
    assert one == bootstrap(values)
    assert one["mean"] == pytest.approx(0.525)
    assert one["sd"] == pytest.approx(np.std(values, ddof=1))
    assert 0.1 < one["low"] < 0.525 < one["high"] < 0.9
    assert bootstrap([0.7]) == {"mean": 0.7, "sd": 0.0, "low": pytest.approx(0.7), "high": pytest.approx(0.7)}
