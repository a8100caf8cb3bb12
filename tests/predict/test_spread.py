"""How one prompt spreads where a model has no editor, told in the language of `tests.predict.language`."""

import numpy as np
import pytest
from scipy import ndimage

from slem_app.phantom import Phantom
from slem_app.predict import Predictor, Refiner
from slem_app.predict.appearance import AppearanceSettings
from slem_app.predict.claim import ClaimSettings, squared_distance
from slem_app.predict.refine import RefineSettings
from slem_app.weights import Model
from tests.predict.language import Reader, middle, prepared, reader

NECROSIS, EDEMA, ENHANCING = 1, 2, 3


@pytest.mark.parametrize("model", ["thresholds", "fresh", "listening"], indirect=True)
def test_what_shows_another_label_than_the_one_that_is_corrected_stays(model: Model, case: Phantom) -> None:
    who, voxel = reader(model, case), middle(case, EDEMA)
    corrected = who.shown[voxel]
    who.positive("necrosis", voxel)
    changed = np.argwhere(who.shown != who.before)
    assert len(changed)
    far = changed[np.linalg.norm((changed - voxel) * 2.0, axis=1) > who.refiner.settings.claim.ball]
    assert set(who.before[tuple(far.T)]) <= {corrected}


def test_in_the_ball_around_a_click_only_its_core_follows_against_all_odds(
    thresholds: Model, case: Phantom
) -> None:
    voxel, taken = middle(case, EDEMA), []
    for refused in (np.inf, 0.0):
        claim = ClaimSettings(core=2.5, ball=9.0, refused=refused)
        who = Reader(
            Refiner(Predictor(thresholds, precision="float32"), RefineSettings(claim=claim)),
            prepared(case, thresholds.card),
            keep=False,
        )
        who.negative(voxel)
        taken.append(who.shown == 0)
    grid = who.prepared.reference
    away = np.sqrt(squared_distance(grid, grid.to_world(np.array(voxel))))
    assert taken[0][away <= claim.ball].all()
    assert taken[1][away <= claim.core].all()
    assert not taken[1][away <= claim.ball].all()
    assert not (taken[1] & ~taken[0]).any()


def test_a_stroke_over_two_labels_corrects_both(thresholds: Model, case: Phantom) -> None:
    who, painted = reader(thresholds, case), np.zeros(case.labels.shape, bool)
    painted[tuple(np.array([middle(case, NECROSIS), middle(case, EDEMA)]).T)] = True
    painted = ndimage.binary_dilation(painted, iterations=2)
    corrected = set(np.unique(who.shown[painted]))
    assert {NECROSIS, EDEMA} <= corrected
    who.paint("enhancing tumor", painted)
    changed = (who.shown != who.before) & ~painted
    assert {NECROSIS, EDEMA} & set(who.before[changed])
    assert set(who.before[changed]) <= corrected


@pytest.mark.parametrize("model", ["thresholds", "fresh", "listening"], indirect=True)
def test_looks_that_count_nothing_change_nothing_and_others_do(model: Model, case: Phantom) -> None:
    """Looks hold what is unlike the click back, and never touch what an earlier click holds."""
    shown = []
    for settings in (AppearanceSettings(against=0, support=0), AppearanceSettings(against=8, support=8)):
        who = Reader(
            Refiner(Predictor(model, precision="float32"), RefineSettings(appearance=settings)),
            prepared(case, model.card),
            keep=hasattr(model.network, "fuse"),
        )
        first, second = middle(case, EDEMA), middle(case, NECROSIS)
        who.positive("necrosis", first)
        who.positive("enhancing tumor", second)
        assert (who.shown[first], who.shown[second]) == (NECROSIS, ENHANCING)
        shown.append(who.shown)
    assert (shown[0] != shown[1]).any()


def test_a_network_that_listens_changes_more_than_the_ball(listening: Model, case: Phantom) -> None:
    who = reader(listening, case)
    who.positive("edema", (30, 30, 30))
    assert (who.shown != who.before).sum() > 33  # voxels of a ball of 2 mm


def test_what_the_network_sees_counts_in_the_looks(listening: Model, case: Phantom) -> None:
    shown = []
    for deep in (0.0, 4.0):
        who = Reader(
            Refiner(
                Predictor(listening, precision="float32"),
                RefineSettings(appearance=AppearanceSettings(deep=deep)),
            ),
            prepared(case, listening.card),
        )
        who.positive("necrosis", middle(case, EDEMA))
        shown.append(who.shown)
    assert (shown[0] != shown[1]).any()
