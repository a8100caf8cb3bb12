"""How a prompt spreads where a model has no editor, told in the language of `tests.predict.language`."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from slem_app.phantom import Phantom
from slem_app.predict import Predictor, Refiner
from slem_app.predict.editing import BALL
from slem_app.predict.rule_answers import FARTHEST
from slem_app.prompts import Click, Mask
from slem_app.volumes.geometry import squared_distance
from slem_app.weights import BRAIN_LABELS, Model
from tests.predict.language import middle, prepared, reader

NECROSIS, EDEMA, ENHANCING = 1, 2, 3


@pytest.mark.parametrize("model", ["thresholds", "fresh"], indirect=True)
def test_what_shows_another_label_than_the_one_that_is_corrected_stays(model: Model, case: Phantom) -> None:
    who, voxel = reader(model, case), middle(case, EDEMA)
    corrected = who.shown[voxel]
    who.positive("necrosis", voxel)
    changed = np.argwhere(who.shown != who.before)
    assert len(changed)
    far = changed[np.linalg.norm((changed - voxel) * 2.0, axis=1) > BALL]
    assert set(who.before[tuple(far.T)]) <= {corrected}


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


def test_what_looks_alike_follows_and_what_is_far_or_unlike_does_not(
    thresholds: Model, case: Phantom
) -> None:
    who, voxel = (
        reader(thresholds, case, mask=Mask(np.zeros_like(case.labels), case.grid)),
        middle(case, EDEMA),
    )
    who.positive("edema", voxel)
    taken = who.shown == EDEMA
    assert (case.labels[taken] == EDEMA).mean() > 0.8
    away = squared_distance(case.grid, case.grid.to_world(np.array(voxel)))
    near = (case.labels == EDEMA) & (away < 20**2)
    assert taken[near].mean() > 0.8
    assert not taken[away > FARTHEST**2].any()


def test_without_an_automatic_result_the_images_alone_count(thresholds: Model, case: Phantom) -> None:
    refiner, study = Refiner(Predictor(thresholds, precision="float32")), prepared(case, thresholds.card)
    start = refiner.start(study, Mask(np.zeros_like(case.labels), case.grid))
    start = replace(start, probabilities=None)
    click = Click.on(study.reference, middle(case, ENHANCING), "enhancing tumor", BRAIN_LABELS)
    shown = refiner.refine(study, start, start.prompts.with_click(click)).prediction.array
    taken, right = shown == ENHANCING, case.labels == ENHANCING
    assert taken.sum() > 50
    assert right[taken].mean() > 5 * right.mean(), "what looks alike, not anything near"


def test_more_reach_takes_in_what_less_does(thresholds: Model, case: Phantom) -> None:
    who, voxel, taken = reader(thresholds, case), middle(case, NECROSIS), []
    start = who.result
    for reach in (-1.0, 0.0, 1.0):
        click = replace(Click.on(who.prepared.reference, voxel, "edema", BRAIN_LABELS), reach=reach)
        refined = who.refiner.refine(who.prepared, start, start.prompts.with_click(click))
        taken.append(refined.prediction.array == EDEMA)
    assert not (taken[0] & ~taken[1]).any()
    assert not (taken[1] & ~taken[2]).any()
    assert taken[0].sum() < taken[2].sum()
