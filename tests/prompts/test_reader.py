"""The simulated reader clicks into the interior of the worst error and says what is there."""

import numpy as np
import pytest

from slem_app.errors import BadSetting
from slem_app.prompts import BACKGROUND, ReaderSettings, SimulatedReader
from slem_app.weights import BRAIN_LABELS

ONE = np.ones(3)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Truth and what is shown: edema missing in a large cube, necrosis shown as edema in a small one, false
    edema in a middling one.
    """
    truth, shown = np.zeros((40, 40, 40), np.uint8), np.zeros((40, 40, 40), np.uint8)
    truth[2:16, 2:16, 2:16] = 2
    truth[25:30, 25:30, 25:30], shown[25:30, 25:30, 25:30] = 1, 2
    shown[2:9, 25:32, 25:32] = 2
    return truth, shown


def reader(**settings) -> SimulatedReader:
    return SimulatedReader(BRAIN_LABELS, ReaderSettings(**settings))


def test_the_largest_error_comes_first_when_volume_counts() -> None:
    truth, shown = scene()
    shots = reader(measure="volume", jitter=0).shots(truth, shown, ONE, np.random.default_rng(0), 1)
    assert shots[0].label == "edema"
    assert shots[0].regions == ("WT",)
    assert all(8 <= v <= 9 for v in shots[0].index)


def test_the_error_that_costs_most_dice_comes_first_when_shares_count() -> None:
    truth, shown = scene()
    shots = reader(jitter=0).shots(truth, shown, ONE, np.random.default_rng(0), 3)
    assert [s.label for s in shots[:1]] == ["necrosis"]
    assert shots[0].index == (27, 27, 27)
    assert shots[0].regions == ("TC",)


def test_false_tumour_is_clicked_as_background() -> None:
    truth, shown = scene()
    truth[2:16] = 0
    truth[25:30, 25:30, 25:30] = 2
    shot = reader(jitter=0).shots(truth, shown, ONE, np.random.default_rng(0))[0]
    assert (shot.label, shot.index, shot.regions) == (BACKGROUND, (5, 28, 28), ("WT",))


def test_every_click_lies_in_an_error_and_names_the_truth() -> None:
    truth, shown = scene()
    shots = reader(jitter=1.0).shots(truth, shown, ONE, np.random.default_rng(1), 30)
    assert len(shots) >= 5
    for shot in shots:
        assert truth[shot.index] != shown[shot.index]
        assert (BRAIN_LABELS.value(shot.label) if shot.label else 0) == truth[shot.index]
        assert shot.right
    assert len({s.index for s in shots}) == len(shots)


def test_millimetres_count_not_voxels() -> None:
    truth, shown = np.zeros((30, 30, 9), np.uint8), np.zeros((30, 30, 9), np.uint8)
    truth[5:25, 5:25, 3:6] = 2
    depth = (
        reader(jitter=0).shots(truth, shown, np.array([1.0, 1.0, 10.0]), np.random.default_rng(0))[0].index
    )
    assert depth[2] in (3, 4, 5)
    assert all(13 <= v <= 16 for v in depth[:2])


def test_nothing_wrong_no_click() -> None:
    truth, _ = scene()
    assert reader().shots(truth, truth.copy(), ONE, np.random.default_rng(0), 5) == ()


def test_small_errors_are_let_be() -> None:
    truth, shown = scene()
    shots = reader(smallest=200, measure="volume").shots(truth, shown, ONE, np.random.default_rng(0), 30)
    assert shots
    assert "necrosis" not in {s.label for s in shots}


def test_the_same_seed_gives_the_same_clicks() -> None:
    truth, shown = scene()
    first, second, third = (
        reader().shots(truth, shown, ONE, np.random.default_rng(seed), 6) for seed in (5, 5, 6)
    )
    assert first == second
    assert first != third


def test_some_clicks_are_wrong_when_told_so() -> None:
    truth, shown = scene()
    shots = [reader(wrong=0.5).shots(truth, shown, ONE, np.random.default_rng(seed))[0] for seed in range(60)]
    wrong = [s for s in shots if not s.right]
    assert 15 < len(wrong) < 45
    assert all((BRAIN_LABELS.value(s.label) if s.label else 0) != truth[s.index] for s in wrong)


@pytest.mark.parametrize("bad", [{"measure": "mood"}, {"jitter": 2.0}, {"wrong": -0.1}, {"smallest": -1.0}])
def test_refuses_settings_out_of_range(bad: dict) -> None:
    with pytest.raises(BadSetting, match="a reader's measure is share or volume"):
        ReaderSettings(**bad)
