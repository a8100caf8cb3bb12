"""Corrections, told in the language of `tests.predict.language`."""

from itertools import pairwise

import numpy as np
import pytest

from slem_app.errors import BadPrompt
from slem_app.phantom import Phantom, make, reorient_phantom
from slem_app.predict import Predictor
from slem_app.predict.grids import moved
from slem_app.prompts import BACKGROUND, Click, Mask, Prompts, SimulatedReader
from slem_app.weights import BRAIN_LABELS, Model
from tests.predict.language import Reader, Voxel, middle, prepared, reader, refiner

NECROSIS, EDEMA, ENHANCING = 1, 2, 3


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_without_prompts_it_is_the_automatic_result(model: Model, case: Phantom) -> None:
    study = prepared(case, model.card)
    kept = Reader(refiner(model), study)
    plain = Predictor(model, precision="float32").predict(study)
    np.testing.assert_array_equal(kept.shown, plain.array)
    assert kept.result.prompts == Prompts()
    assert kept.result.prediction.grid is study.reference


def test_clicks_are_obeyed_whatever_the_network_says(model: Model, case: Phantom) -> None:
    who = reader(model, case)
    shape, rng = np.array(who.shown.shape), np.random.default_rng(0)
    said: dict[Voxel, int] = {}
    for n in range(8):
        voxel = tuple(int(v) for v in rng.integers(0, shape))  # anywhere, the air around the head included
        value = n % 4
        if value:
            who.positive(BRAIN_LABELS.names[value - 1], voxel)
        else:
            who.negative(voxel)
        said[voxel] = value
        assert {v: int(who.shown[v]) for v in said} == said


def test_neighbouring_clicks_of_other_labels_all_hold(model: Model, case: Phantom) -> None:
    who, (i, j, k) = reader(model, case), middle(case, EDEMA)
    said = {
        (i, j, k): EDEMA,
        (i + 1, j, k): NECROSIS,
        (i, j + 1, k): 0,
        (i, j, k + 1): ENHANCING,
        (i - 1, j, k): 0,
        (i, j - 1, k): EDEMA,
    }
    for voxel, value in said.items():
        who.positive(BRAIN_LABELS.names[value - 1] if value else BACKGROUND, voxel)
    assert {v: int(who.shown[v]) for v in said} == said


def test_on_one_voxel_the_later_click_holds(model: Model, case: Phantom) -> None:
    who, voxel = reader(model, case), middle(case, EDEMA)
    who.positive("necrosis", voxel)
    who.negative(voxel)
    assert who.shown[voxel] == 0
    who.positive("necrosis", voxel)
    assert who.shown[voxel] == NECROSIS


def test_nothing_changes_outside_the_box_that_is_told(model: Model, case: Phantom) -> None:
    who = reader(model, case)
    for label, voxel in [
        ("enhancing tumor", middle(case, NECROSIS)),
        ("edema", (20, 20, 20)),
        (BACKGROUND, middle(case, EDEMA)),
    ]:
        who.positive(label, voxel)
        outside = np.ones(who.shown.shape, bool)
        outside[who.result.changed] = False
        assert outside.any()
        np.testing.assert_array_equal(who.shown[outside], who.before[outside])


def test_a_click_only_ever_spreads_its_own_label_in_one_piece(model: Model, case: Phantom) -> None:
    who, voxel = reader(model, case), middle(case, EDEMA)
    who.positive("necrosis", voxel)
    changed = who.shown != who.before
    assert changed.any()
    assert set(np.unique(who.shown[changed])) == {NECROSIS}


def test_the_result_before_is_left_as_it_was(model: Model, case: Phantom) -> None:
    who = reader(model, case)
    first, kept = who.result, who.shown.copy()
    who.positive("necrosis", middle(case, EDEMA))
    np.testing.assert_array_equal(first.prediction.array, kept)
    assert (who.shown != kept).any()
    who.undo()
    assert who.result is first


def test_clicks_at_once_are_as_clicks_one_by_one(thresholds: Model, case: Phantom) -> None:
    a, b = middle(case, EDEMA), middle(case, NECROSIS)
    one, both = reader(thresholds, case), reader(thresholds, case)
    one.positive("necrosis", a)
    one.positive("necrosis", b)
    both.positive("necrosis", a, b)
    np.testing.assert_array_equal(one.shown, both.shown)


def test_replay_gives_the_same_as_the_clicks_did(model: Model, case: Phantom) -> None:
    who = reader(model, case)
    start = who.result
    who.positive("necrosis", middle(case, EDEMA))
    who.negative(middle(case, ENHANCING))
    who.limit((10, 10, 10), (50, 60, 45))
    again = who.refiner.replay(who.prepared, start, who.result.prompts)
    np.testing.assert_array_equal(again.prediction.array, who.shown)
    assert again.prompts == who.result.prompts


def test_replay_without_a_click_is_as_if_it_had_never_been(model: Model, case: Phantom) -> None:
    who, other = reader(model, case), reader(model, case)
    who.positive("necrosis", middle(case, EDEMA))
    other.negative(middle(case, ENHANCING))
    start = who.history[0]
    who.negative(middle(case, ENHANCING))
    left = who.result.prompts.without(who.result.prompts.clicks[0])
    np.testing.assert_array_equal(who.refiner.replay(who.prepared, start, left).prediction.array, other.shown)


def test_refuses_to_forget_a_click_by_itself(thresholds: Model, case: Phantom) -> None:
    who = reader(thresholds, case)
    who.positive("necrosis", middle(case, EDEMA))
    with pytest.raises(
        BadPrompt,
        match=(
            "earlier prompts are gone: a correction cannot take them back; go back to the result before "
            "them, or replay"
        ),
    ):
        who.say(Prompts())


def test_refuses_an_unknown_label_and_a_click_of_another_image(thresholds: Model, case: Phantom) -> None:
    who = reader(thresholds, case)
    with pytest.raises(BadPrompt, match="a click names the unknown label 'cyst'"):
        who.say(Prompts((Click("cyst", (0, 0, 0)),)))
    with pytest.raises(
        BadPrompt, match=r"a click of 'edema' at \[900.0, 0.0, 0.0\] mm lies outside the image 64x72x56"
    ):
        who.say(Prompts((Click("edema", (900.0, 0, 0)),)))
    assert len(who.history) == 1


def test_a_missed_part_comes_back_with_one_click(thresholds: Model, case: Phantom) -> None:
    hole = case.labels.copy()
    index = np.argwhere(case.labels == EDEMA)
    hole[tuple(index[index[:, 2] > np.median(index[:, 2])].T)] = 0  # the upper half of the edema is missed
    who = reader(thresholds, case, mask=Mask(hole, case.grid))
    np.testing.assert_array_equal(who.shown, hole)
    error = (case.labels == EDEMA) & (hole == 0)
    where = np.argwhere(error)
    voxel = tuple(int(v) for v in where[((where - where.mean(axis=0)) ** 2).sum(axis=1).argmin()])
    who.positive("edema", voxel)
    after = who.shown == EDEMA
    assert (after & error).sum() > 0.5 * error.sum()
    assert dice(after, case.labels == EDEMA) > dice(hole == EDEMA, case.labels == EDEMA) + 0.1


def test_a_false_part_goes_with_one_click(thresholds: Model, case: Phantom) -> None:
    false = case.labels.copy()
    free = np.argwhere((case.images["t1c"] > 0) & (case.labels == 0))
    far = free[((free - np.argwhere(case.labels).mean(axis=0)) ** 2).sum(axis=1).argmax()]
    blob = ((np.indices(false.shape).transpose(1, 2, 3, 0) - far) ** 2).sum(axis=-1) <= 9
    false[blob] = EDEMA
    who = reader(thresholds, case, mask=Mask(false, case.grid))
    who.negative(tuple(int(v) for v in far))
    assert (who.shown[blob] == EDEMA).sum() < 0.2 * blob.sum()
    np.testing.assert_array_equal(who.shown[~blob], false[~blob])


def test_a_patient_reader_gets_nearer_to_the_truth(thresholds: Model, case: Phantom) -> None:
    who, robot, rng = reader(thresholds, case), SimulatedReader(BRAIN_LABELS), np.random.default_rng(0)
    right = [float((who.shown == case.labels).sum())]
    for _ in range(6):
        shot = robot.shots(case.labels, who.shown, case.grid.spacing, rng)[0]
        who.positive(shot.label, shot.index)
        right.append(float((who.shown == case.labels).sum()))
    assert sum(b > a for a, b in pairwise(right)) >= 5
    assert right[-1] > right[0]


@pytest.mark.parametrize("code", ["RAS", "PIL", "SAR"])
def test_the_same_clicks_on_a_turned_image_give_the_same_result(
    thresholds: Model, case: Phantom, code: str
) -> None:
    turned = reorient_phantom(case, code)
    plain, other = reader(thresholds, case), reader(thresholds, turned)
    for label, value in [("necrosis", ENHANCING), ("edema", NECROSIS), (BACKGROUND, EDEMA)]:
        voxel = middle(case, value)
        plain.positive(label, voxel)
        other.positive(
            label, tuple(int(v) for v in np.round(turned.grid.to_index(case.grid.to_world(np.array(voxel)))))
        )
    back = moved(other.shown, turned.grid, case.grid, order=0)
    assert (plain.shown != plain.history[0].prediction.array).sum() > 50
    assert (back == plain.shown).mean() > 0.999
    assert dice(back > 0, plain.shown > 0) > 0.99


@pytest.mark.parametrize("reference", ["t1n", "t2w", "t2f"])
def test_clicks_on_any_sequence_are_obeyed_on_its_own_grid(model: Model, reference: str) -> None:
    own = make(seed=3, shape=(64, 72, 56), spacing=(2.0, 2.0, 2.0), oblique=True, own_grids=True)
    who, grid = reader(model, own, reference), own.grids[reference]
    assert who.shown.shape == grid.shape
    for label, value in [("necrosis", ENHANCING), ("edema", NECROSIS), (BACKGROUND, EDEMA)]:
        voxel = Click(label, tuple(own.grid.to_world(np.array(middle(own, value))))).voxel(grid)
        who.positive(label, voxel)
        assert who.shown[voxel] == (BRAIN_LABELS.value(label) if label else 0)
    assert all(
        who.shown[c.voxel(grid)] == (BRAIN_LABELS.value(c.label) if c.label else 0)
        for c in who.result.prompts.clicks
    )


def test_every_painted_voxel_is_obeyed(model: Model, case: Phantom) -> None:
    who, (i, j, k) = reader(model, case), middle(case, EDEMA)
    stroke, erased = np.zeros(case.grid.shape, bool), np.zeros(case.grid.shape, bool)
    stroke[i - 6 : i + 7, j, k], erased[i, j - 4 : j + 5, k + 2] = True, True
    who.paint("necrosis", stroke)
    assert (who.shown[stroke] == NECROSIS).all()
    who.paint(BACKGROUND, erased)
    assert (who.shown[stroke] == NECROSIS).all()
    assert (who.shown[erased] == 0).all()


def test_a_box_keeps_labels_inside_from_then_on(model: Model, case: Phantom) -> None:
    who, centre = reader(model, case), middle(case, ENHANCING)
    low, high = tuple(v - 6 for v in centre), tuple(v + 6 for v in centre)
    inside = np.zeros(case.grid.shape, bool)
    inside[tuple(slice(a, b + 1) for a, b in zip(low, high))] = True
    who.limit(low, high)
    np.testing.assert_array_equal(who.shown, np.where(inside, who.before, 0))
    who.positive("edema", tuple(v + 5 for v in centre))
    assert not who.shown[~inside].any()
    assert who.shown[tuple(v + 5 for v in centre)] == EDEMA


def test_a_box_for_one_label_leaves_the_others(thresholds: Model, case: Phantom) -> None:
    who = reader(thresholds, case, mask=Mask(case.labels, case.grid))
    index = np.argwhere(case.labels == ENHANCING)
    who.limit(
        tuple(np.median(index, axis=0).astype(int).tolist()),
        tuple(index.max(axis=0).tolist()),
        "enhancing tumor",
    )
    np.testing.assert_array_equal(
        np.isin(who.shown, (NECROSIS, EDEMA)), np.isin(who.before, (NECROSIS, EDEMA))
    )
    assert 0 < (who.shown == ENHANCING).sum() < (who.before == ENHANCING).sum()


def test_timings_tell_the_steps(thresholds: Model, case: Phantom) -> None:
    who = reader(thresholds, case)
    assert set(who.result.prediction.timings) == {"network", "restore"}
    who.positive("edema", (30, 30, 30))
    assert set(who.result.prediction.timings) == {"network", "merge"}
