"""How far a prompt reaches: the margins by which a label is shown, distances, the layer that a
click means.
"""

import numpy as np
import pytest
from scipy import ndimage

from slem_app.predict.claim import ClaimSettings, layer, margins, squared_distance
from slem_app.prompts import Click
from slem_app.regions import PostProcess, decide
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS


def test_margins_are_positive_just_where_thresholds_give_the_label() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 12, 12, 12)).astype(np.float32)
    shown = decide(1 / (1 + np.exp(-logits)), BRAIN_LABELS, PostProcess(threshold=0.3), 1.0)
    for value, label in enumerate(("", *BRAIN_LABELS.names)):
        np.testing.assert_array_equal(
            (margins(logits, BRAIN_LABELS, label, 0.3) > 0).all(axis=0), shown == value
        )


@pytest.mark.parametrize("shear", [0.0, 0.02])
def test_distances_are_those_of_the_voxels_centres_on_turned_and_sheared_grids(shear: float) -> None:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn[:, 0] += shear * turn[:, 1]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [1.0, 1.5, 4.0], (3, -5, 8)
    grid, world = Grid((6, 5, 4), affine), np.array([1.0, 2.0, 3.0])
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    np.testing.assert_allclose(
        squared_distance(grid, world), ((grid.to_world(index) - world) ** 2).sum(axis=-1), rtol=1e-5
    )


@pytest.mark.parametrize("outside", [False, True], ids=["click of the label", "click of the background"])
def test_a_layer_reaches_as_far_as_distances_over_the_whole_crop_say(outside: bool) -> None:
    grid, settings = Grid((30, 26, 18), np.diag([1.5, 1.5, 2.0, 1.0])), ClaimSettings()
    i, j, k = np.ogrid[:30, :26, :18]
    showing = ((i - 12) ** 2 + (j - 13) ** 2 + 2 * (k - 9) ** 2 < 40) | ((i > 25) & (j > 22))
    at = (12, 13, 9) if outside else (20, 13, 9)
    showing = ~showing if outside else showing
    may, must = layer(Click("edema", tuple(grid.to_world(np.array(at)))), grid, showing, settings)
    beyond = ndimage.distance_transform_edt(~showing, sampling=grid.spacing)
    away = squared_distance(grid, grid.to_world(np.array(at)))
    fall = np.maximum(np.exp(-0.5 * away / settings.beside**2), settings.shallowest)
    depth = beyond[at]
    assert depth > 2
    np.testing.assert_array_equal(
        may, (beyond <= settings.across * depth * fall) | (away <= (1.2 * depth) ** 2)
    )
    np.testing.assert_array_equal(must, away <= (settings.own * depth) ** 2)
