from dataclasses import replace

import numpy as np
import pytest

from slem_app.predict import Predictor, assessed
from slem_app.predict.doubts import doubts, near_surface
from slem_app.types import Grid
from slem_app.volumes.prepare import Prepared
from slem_app.weights import Model, Plausible, load_card, model_folder

LIMITS = Plausible(smallest=1.0, largest=40.0, near_surface=0.5, least_sure=0.8)
GRID = Grid((40, 40, 40), np.diag([1.0, 1.0, 1.0, 1.0]))


@pytest.fixture
def brain() -> Prepared:
    """A cube of 30 mm in a field of 40 mm, with a hole, as a ventricle is."""
    image = np.zeros((1, *GRID.shape), np.float32)
    image[:, 5:35, 5:35, 5:35] = 1.0
    image[:, 18:22, 18:22, 18:22] = 0.0
    return Prepared(image, np.ones(1, bool), ("t1n",), GRID, GRID)


def told(found: np.ndarray, brain: Prepared, sure: float = 0.9, limits: Plausible = LIMITS) -> list[str]:
    probabilities = np.where(found, sure, 0.1).astype(np.float32)[None]
    return [one.code for one in doubts(found.astype(np.uint8), 1.0, probabilities, brain, 0.5, limits)]


def box(low: int, high: int) -> np.ndarray:
    found = np.zeros(GRID.shape, bool)
    found[low:high, low:high, low:high] = True
    return found


def test_a_usual_result_is_not_doubted(brain: Prepared) -> None:
    assert told(box(12, 26), brain) == []


def test_each_doubt_is_told(brain: Prepared) -> None:
    assert told(box(0, 0), brain) == ["nothing-found"]
    assert told(box(15, 20), brain) == ["small-result"]
    assert told(box(12, 26), brain, limits=replace(LIMITS, largest=2.0)) == ["large-result"]
    assert told(box(5, 16), brain) == ["near-surface"]
    assert told(box(12, 26), brain, sure=0.7) == ["unsure-result"]


def test_a_hole_inside_is_no_surface_but_the_end_of_the_image_is(brain: Prepared) -> None:
    assert near_surface(box(16, 24), brain) == 0.0
    full = replace(brain, images=np.ones((1, *GRID.shape), np.float32))
    assert near_surface(box(0, 5), full) == 1.0


def test_a_model_without_limits_doubts_nothing(brain: Prepared) -> None:
    assert told(box(0, 0), brain, limits=Plausible()) == []


@pytest.mark.parametrize(
    "wrong",
    [{"smallest": -1.0}, {"smallest": 5.0, "largest": 4.0}, {"near_surface": 1.5}, {"least_sure": -0.1}],
)
def test_impossible_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="impossible limits"):
        Plausible(**wrong)


def test_a_prediction_comes_with_its_doubts(thresholds: Model, brain: Prepared) -> None:
    card = replace(thresholds.card, plausible=Plausible(smallest=1.0))
    predictor = Predictor(Model(card, thresholds.network, thresholds.folder))
    empty = np.zeros((4, *GRID.shape), np.float32)
    prepared = replace(brain, images=empty, present=np.ones(4, bool), sequences=card.sequences)
    result = assessed(predictor.predict(prepared))
    assert not result.array.any()
    assert [one.code for one in result.warnings] == ["nothing-found"]


def test_the_bundled_model_has_limits() -> None:
    limits = load_card(model_folder("slem_brain")).plausible
    assert 0 < limits.smallest < limits.largest
    assert 0 < limits.near_surface < 1
    assert 0 < limits.least_sure < 1
