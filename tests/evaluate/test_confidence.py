"""What a model's probabilities are worth, fitted on cases with truth."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import expit

from slem_app.evaluate.confidence import Observed, fitted_confidence, line_of_logits, observed
from slem_app.predict import Prediction
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS, Confidence

NAMES = ("WT", "TC", "ET")
SHAPE = (24, 20, 16)


def case(seed: int, slope: float = 0.5, shift: float = -1.0, quality: float | None = None) -> Observed:
    """A case whose logits are too sure: the truth is drawn from slope * logit + shift."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, 4000)
    there = rng.random(4000) < expit(slope * logits + shift)
    told = rng.uniform(0.6, 0.95) if quality is None else quality
    dice = 2 * told - 0.95 + rng.normal(0, 0.01)
    return Observed(
        dict.fromkeys(NAMES, (logits, there)), dict.fromkeys(NAMES, told), dict.fromkeys(NAMES, dice)
    )


@pytest.fixture
def cases() -> Callable[[int], list[Observed]]:
    return lambda count: [case(seed) for seed in range(count)]


def test_finds_the_line_that_the_truth_was_drawn_from() -> None:
    slope, shift = line_of_logits([case(seed).logits["WT"] for seed in range(6)])
    assert (slope, shift) == pytest.approx((0.5, -1.0), abs=0.05)
    temperature, none = line_of_logits([case(seed, shift=0.0).logits["WT"] for seed in range(6)], False)
    assert (temperature, none) == (pytest.approx(0.5, abs=0.05), 0.0)


def test_too_few_cases_tell_nothing(cases: Callable[[int], list[Observed]]) -> None:
    before = Confidence(places=True, logits={"WT": (0.3, 0.1)}, dice={"WT": (0.0, 1.0, 0.1)})
    few = fitted_confidence(cases(4), BRAIN_LABELS, before)
    assert (few.places, few.logits, few.dice) == (True, {}, {})
    some = fitted_confidence(cases(5), BRAIN_LABELS, before)
    assert set(some.logits) == set(NAMES)
    assert some.dice == {}


def test_the_dice_is_told_only_where_it_is_told_better_than_by_the_median(
    cases: Callable[[int], list[Observed]],
) -> None:
    lines = fitted_confidence(cases(12), BRAIN_LABELS, Confidence()).dice
    intercept, slope, below = lines["WT"]
    assert (intercept, slope) == pytest.approx((-0.95, 2.0), abs=0.1)
    assert 0 <= below < 0.05
    alike = [case(seed, quality=0.8) for seed in range(12)]
    assert fitted_confidence(alike, BRAIN_LABELS, Confidence()).dice == {}


def test_an_observation_is_of_voxels_near_the_result() -> None:
    grid = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
    truth = np.zeros(SHAPE, dtype=np.uint8)
    truth[4:8, 4:8, 4:8] = 3
    found = np.zeros_like(truth)
    found[4:8, 4:8, 4:7] = 3
    probabilities = np.full((3, *SHAPE), 0.01, dtype=np.float32)
    probabilities[:, 4:8, 4:8, 4:7] = 0.9
    prediction = Prediction(found, grid, BRAIN_LABELS, (), ())
    seen = observed(prediction, probabilities, grid, truth)
    logits, there = seen.logits["ET"]
    assert logits.size < truth.size / 2  # what lies farther than 10 mm away has no part
    assert there.sum() == (truth == 3).sum()
    assert np.isclose(logits.max(), np.log(0.9 / 0.1), atol=1e-3)
    assert seen.dice["ET"] == pytest.approx(2 * 48 / (48 + 64))
    assert seen.expected["ET"] == pytest.approx(0.9 * 48 * 2 / (0.9 * 48 + 48))
