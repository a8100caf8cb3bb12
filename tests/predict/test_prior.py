"""The label of an earlier visit, changed where the model sees a change."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from slem_app.phantom import Phantom
from slem_app.predict import Predictor
from slem_app.predict.prior import brought_up_to_date
from slem_app.prompts import Mask
from slem_app.types import Grid
from slem_app.volumes.prepare import Prepared, Volume, prepare
from slem_app.weights import Model

SPOT = (slice(8, 14), slice(30, 36), slice(20, 26))
"""Voxels of healthy tissue."""


@pytest.fixture
def predictor(thresholds: Model) -> Predictor:
    return Predictor(thresholds, precision="float32", conformed="none")


@pytest.fixture
def seen(predictor: Predictor, case: Phantom) -> Prepared:
    volumes = {name: Volume(image, case.grids[name]) for name, image in case.images.items()}
    card = predictor.card
    return prepare(volumes, card.sequences, card.preparation, case.grid, "t1c", "none")


def with_light(seen: Prepared, value: float) -> Prepared:
    """The case with FLAIR and contrast-enhanced T1 of one value in the spot: a lesion, or none."""
    images = seen.images.copy()
    for slot in (1, 3):
        images[(slot, *SPOT)] = value
    return replace(seen, images=images)


def spot_of(seen: Prepared, grid: Grid) -> np.ndarray:
    """(I, J, K) bool on an image's grid: the inner voxels of the spot."""
    mask = np.zeros(seen.grid.shape, bool)
    mask[SPOT] = True
    mask = ndimage.binary_erosion(mask)
    points = np.rint(grid.to_index(seen.grid.to_world(np.argwhere(mask)))).astype(int)
    found = np.zeros(grid.shape, bool)
    found[tuple(points.T)] = True
    return found


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_where_the_model_sees_no_change_the_readers_label_stays(
    predictor: Predictor, seen: Prepared, case: Phantom
) -> None:
    automatic = predictor.predict(seen).array
    reader = case.labels.copy()
    place = spot_of(seen, case.grid)
    reader[place] = 2  # what the model does not find at either visit
    reader[ndimage.binary_erosion(automatic > 0, iterations=2)] = 0  # and what it finds wrongly at both
    array = brought_up_to_date(predictor, seen, seen, Mask(reader, case.grid), np.eye(4))
    assert dice(automatic > 0, reader > 0) < 0.85
    assert dice(array > 0, reader > 0) > 0.95
    assert (array[ndimage.binary_erosion(place)] == 2).all()


@pytest.mark.parametrize("new", [True, False], ids=["has come", "has gone"])
def test_a_lesion_that_has_come_or_gone_is_followed(
    predictor: Predictor, seen: Prepared, case: Phantom, new: bool
) -> None:
    lit, dark = with_light(seen, 3.0), with_light(seen, 0.0)
    now, then = (lit, dark) if new else (dark, lit)
    place = spot_of(seen, case.grid)
    reader = case.labels.copy()
    if not new:
        reader[place] = 3
    array = brought_up_to_date(predictor, now, then, Mask(reader, case.grid), np.eye(4))
    assert np.mean(array[place] > 0) == (1.0 if new else 0.0)
    assert dice((array > 0) & ~place, (case.labels > 0) & ~place) > 0.9


def test_the_earlier_visit_may_lie_elsewhere(predictor: Predictor, seen: Prepared, case: Phantom) -> None:
    move = np.eye(4)
    move[:3, 3] = (6.0, -4.0, 2.0)  # of the later visit from the earlier one
    moved = Grid(case.grid.shape, np.linalg.inv(move) @ case.grid.affine)
    then = replace(seen, grid=Grid(seen.grid.shape, np.linalg.inv(move) @ seen.grid.affine), reference=moved)
    reader = np.where(
        case.grid.to_world(np.indices(case.grid.shape).reshape(3, -1).T)[:, 2].reshape(case.grid.shape) > 0,
        case.labels,
        0,
    ).astype(np.uint8)
    array = brought_up_to_date(predictor, seen, then, Mask(reader, moved), np.linalg.inv(move))
    assert dice(array > 0, reader > 0) > 0.95


def test_an_earlier_visit_without_any_label_adds_nothing(
    predictor: Predictor, seen: Prepared, case: Phantom
) -> None:
    empty = Mask(np.zeros(case.grid.shape, np.uint8), case.grid)
    dark = replace(seen, images=np.zeros_like(seen.images))
    array = brought_up_to_date(predictor, seen, dark, empty, np.eye(4))
    assert dice(array > 0, predictor.predict(seen).array > 0) > 0.95


def test_a_sequence_of_one_visit_alone_is_not_taken_for_a_change(
    predictor: Predictor, seen: Prepared, case: Phantom
) -> None:
    less = replace(seen, present=seen.present & ~np.array([True, False, False, False]))
    asked: list[list[bool]] = []
    found = predictor.probabilities

    def noted(prepared: Prepared) -> np.ndarray:
        asked.append(prepared.present.tolist())
        return found(prepared)

    predictor.probabilities = noted  # type: ignore[method-assign]
    array = brought_up_to_date(predictor, seen, less, Mask(case.labels, case.grid), np.eye(4))
    assert asked == [[False, True, True, True]] * 2
    assert dice(array > 0, case.labels > 0) > 0.95
