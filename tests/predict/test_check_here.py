"""Where a result is likely wrong: the doubtful place is found, named and ranked; expected Dice follows
truth.
"""

from dataclasses import replace

import numpy as np
import pytest

from slem_app.errors import BadSetting
from slem_app.predict.check_here import (
    calibrated,
    doubtful,
    doubts_on,
    expected_dice,
    trust_of,
    unlikely,
)
from slem_app.regions import PostProcess
from slem_app.trust import NOTHING, Trust
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS, Confidence

GRID = Grid((40, 40, 40), np.diag([1.0, 1.0, 1.0, 1.0]))
LINES = Confidence(True, {"WT": (1.0, 0.0)}, {"WT": (0.0, 1.0, 0.1)})


def tumor(unsure: float = 0.6) -> np.ndarray:
    """(3, 40, 40, 40): edema 20 voxels wide, sure but for a block at its anterior end; no core."""
    p = np.full((3, *GRID.shape), 0.001, np.float32)
    p[0, 10:30, 10:30, 10:30] = 0.999
    p[0, 16:24, 26:30, 16:24] = unsure
    return p


def test_the_place_where_the_model_is_unsure_is_named() -> None:
    trust = trust_of(tumor(), GRID, BRAIN_LABELS, PostProcess(), LINES)
    first = trust.places[0]
    assert (first.given, first.instead) == ("edema", "")
    assert first.text == f"edema, anterior side: {first.ml:.1f} ml, may be no tumor"
    assert 0.2 <= first.ml <= 0.85
    x, y, z = first.centre
    assert 16 <= x < 24
    assert 26 <= y < 30
    assert 16 <= z < 24


def test_at_most_five_places_that_lie_apart() -> None:
    grid = Grid((90, 40, 40), np.eye(4))
    p = np.full((3, *grid.shape), 0.001, np.float32)
    p[0, 2:88, 10:30, 10:30] = 0.999
    for number in range(7):  # seven blocks, less and less sure
        x = 4 + 12 * number
        p[0, x : x + 6, 16:22, 16:22] = 0.95 - 0.06 * number
    places = trust_of(p, grid, BRAIN_LABELS, PostProcess(), LINES).places
    assert 3 <= len(places) <= 5
    centres = np.array([place.centre for place in places])
    gaps = np.linalg.norm(centres[:, None] - centres[None], axis=2)[np.triu_indices(len(places), 1)]
    assert gaps.min() > 16
    assert centres[0, 0] > 70  # the least sure block comes first
    assert all(0.1 <= place.ml <= 2.2 for place in places)


def test_the_expected_dice_is_that_of_probabilities_which_keep_their_word() -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(0.5, 0.5, size=200_000)
    mask, truth = p >= 0.5, rng.random(p.size) < p
    dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
    assert expected_dice(p, mask) == pytest.approx(dice, abs=0.01)


def test_an_unsure_result_is_not_said_to_be_as_expected() -> None:
    sure = trust_of(tumor(0.99), GRID, BRAIN_LABELS, PostProcess(), LINES).quality
    p = tumor()
    p[0, 10:30, 10:30, 10:30] = 0.55
    unsure = trust_of(p, GRID, BRAIN_LABELS, PostProcess(), LINES).quality
    assert (sure.step, unsure.step) == ("as expected", "look closer")
    assert unsure.dice["WT"] < sure.dice["WT"]
    assert sure.low["WT"] == pytest.approx(sure.dice["WT"] - 0.1)
    assert "expected Dice WT" in sure.text


def test_logits_are_put_on_the_line_of_their_region() -> None:
    p = np.full((3, 2, 2, 2), 0.8)
    told = calibrated(p, BRAIN_LABELS, {"WT": (0.5, 0.0), "TC": (1.0, -np.log(4.0))})
    assert told[0] == pytest.approx(2 / 3)  # odds of 4 to 1 become 2 to 1
    assert told[1] == pytest.approx(0.5)
    assert told[2] == pytest.approx(0.8)


def test_the_doubt_is_what_the_label_lacks_of_being_sure() -> None:
    """Voxels: background, edema, necrosis and enhancing tumour, by nested regions WT, TC and ET."""
    p = np.array([[0.2, 0.9, 0.95, 1.0], [0.1, 0.3, 0.9, 0.8], [0.0, 0.1, 0.25, 0.6]], np.float32)
    array = np.array([0, 2, 1, 3], np.uint8).reshape(4, 1, 1)
    told = unlikely(p.reshape(3, 4, 1, 1), array, BRAIN_LABELS)
    assert told.ravel() == pytest.approx([0.2, 0.4, 0.35, 0.4])


def test_a_tenth_of_the_volume_is_looked_at_and_nothing_where_nothing_is() -> None:
    doubts = np.random.default_rng(2).random((20, 20, 20))
    array = np.zeros((20, 20, 20), np.uint8)
    assert not doubtful(doubts, array).any()
    array[:10] = 1
    assert doubtful(doubts, array).sum() == 400


def test_a_model_that_knows_nothing_of_its_probabilities_says_nothing() -> None:
    assert trust_of(tumor(), GRID, BRAIN_LABELS, PostProcess(), Confidence()) == NOTHING
    empty = np.full((3, *GRID.shape), 0.001, np.float32)
    assert trust_of(empty, GRID, BRAIN_LABELS, PostProcess(), LINES).places == ()


def test_what_is_kept_is_read_back_and_anything_else_refused() -> None:
    trust = trust_of(tumor(), GRID, BRAIN_LABELS, PostProcess(), LINES)
    assert Trust.of_table(trust.table()) == trust
    assert Trust.of_table(NOTHING.table()) == NOTHING
    with pytest.raises(BadSetting, match="cannot be read"):
        Trust.of_table({"places": [{"text": "x"}], "quality": None})


def test_the_map_has_the_doubt_of_each_voxel_and_marks_the_places() -> None:
    fine = Grid((80, 80, 80), np.diag([0.5, 0.5, 0.5, 1.0]))
    found = doubts_on(fine, tumor(), GRID, BRAIN_LABELS, PostProcess(), LINES)
    assert found.values.shape == found.places.shape == fine.shape
    unsure = (slice(34, 46), slice(54, 58), slice(34, 46))  # inside the block, which has a probability of 0.6
    assert found.values[unsure] == pytest.approx(0.4, abs=1e-3)
    assert found.values[24:30, 24:30, 24:30].max() < 0.01  # sure edema
    assert found.values[:10].max() < 0.01  # sure background
    assert found.places.any()
    assert found.values[found.places].min() > 0.05
    place = trust_of(tumor(), GRID, BRAIN_LABELS, PostProcess(), LINES).places[0]
    assert found.places[tuple(np.rint(fine.to_index(place.centre)).astype(int))]


def test_a_result_without_a_tumor_leaves_nothing_to_check() -> None:
    empty = np.full((3, *GRID.shape), 0.001, np.float32)
    found = doubts_on(GRID, empty, GRID, BRAIN_LABELS, PostProcess(), LINES)
    assert not found.values.any()
    assert not found.places.any()


def test_a_model_that_tells_no_places_has_no_map() -> None:
    with pytest.raises(BadSetting, match=r"confidence\.places"):
        doubts_on(GRID, tumor(), GRID, BRAIN_LABELS, PostProcess(), Confidence())


def test_no_dice_is_told_of_sequences_from_which_it_cannot_be_told() -> None:
    needs = replace(LINES, needs=("t1c",))
    known = trust_of(tumor(0.99), GRID, BRAIN_LABELS, PostProcess(), needs, ("t1c", "t2f")).quality
    assert (known.step, set(known.dice)) == ("as expected", {"WT"})
    trust = trust_of(tumor(), GRID, BRAIN_LABELS, PostProcess(), needs, ("t2f",))
    assert (trust.quality.step, trust.quality.dice) == ("look closer", {})
    assert trust.quality.text == "look closer (the Dice cannot be told from these sequences)"
    assert trust.quality.least == 0
    assert trust.places
    assert Trust.of_table(trust.table()) == trust
