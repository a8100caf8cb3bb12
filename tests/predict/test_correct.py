"""What of the editor's answer becomes a change, when earlier prompts have said something else."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from slem_app.predict.answers import Answer
from slem_app.predict.correct import Corrector
from slem_app.predict.editor_answers import EditorAnswers
from slem_app.prompts import Click, Scribble
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS
from tests.untrained import noisy_editor

NECROSIS, EDEMA = 1, 2
GRID = Grid((40, 20, 20), np.eye(4))


@pytest.fixture
def corrector() -> Corrector:
    return Corrector(EditorAnswers(noisy_editor(), BRAIN_LABELS, torch.device("cpu")), BRAIN_LABELS)


def click(voxel: tuple[int, int, int], label: str) -> Click:
    return Click.on(GRID, voxel, label, BRAIN_LABELS)


def followed(corrector: Corrector, logit: float, before: list[Click]) -> np.ndarray:
    """Edema everywhere, after a click of necrosis at (30, 10, 10) that is answered alike everywhere."""
    array = np.full(GRID.shape, EDEMA, dtype=np.uint8)
    answer = Answer(np.full(GRID.shape, logit, dtype=np.float32), GRID)
    corrector.follow(array, GRID, answer, click((30, 10, 10), "necrosis"), before, None)
    return array


def test_what_shows_an_earlier_prompts_label_and_is_nearer_to_it_needs_more(corrector: Corrector) -> None:
    settings = corrector.settings
    little, much = settings.threshold + 0.5, settings.threshold + settings.keep + 0.5
    assert (followed(corrector, little, []) == NECROSIS).all()

    earlier = [click((10, 10, 10), "edema")]
    array = followed(corrector, little, earlier)
    assert (array[:20] == EDEMA).all()
    assert (array[21:] == NECROSIS).all()

    array = followed(corrector, much, earlier)
    assert array[10, 10, 10] == EDEMA, "the earlier prompt's own voxel holds"
    assert np.count_nonzero(array == EDEMA) == 1


def test_an_earlier_prompt_of_the_same_label_or_of_one_that_is_not_shown_holds_nothing_back(
    corrector: Corrector,
) -> None:
    little = corrector.settings.threshold + 0.5
    for label in ("necrosis", "enhancing tumor"):
        array = followed(corrector, little, [click((10, 10, 10), label)])
        assert np.count_nonzero(array != NECROSIS) <= 1


def test_a_lasso_spreads_to_other_slices_and_not_over_its_outline_in_its_own(corrector: Corrector) -> None:
    inside = np.zeros(GRID.shape, dtype=bool)
    inside[10:20, 5:12, 10] = True
    answer = Answer(np.full(GRID.shape, 9.0, dtype=np.float32), GRID)
    for within, spreads in ((None, True), (inside, False)):
        array = np.full(GRID.shape, EDEMA, dtype=np.uint8)
        drawn = Scribble.of("necrosis", inside, GRID, within)
        corrector.follow(array, GRID, answer, drawn, [], None)
        assert (array[inside] == NECROSIS).all()
        assert (array[:, :, 10][~inside[:, :, 10]] == NECROSIS).any() == spreads
        assert (array[12:18, 7:10, 9:12] == NECROSIS).all()


def reached(corrector: Corrector, reach: float, before: list[Click]) -> np.ndarray:
    """Edema everywhere, after a click of necrosis with a reach, less and less wanted the farther it is."""
    array = np.full(GRID.shape, EDEMA, dtype=np.uint8)
    away = np.abs(np.arange(GRID.shape[0]) - 30.0)[:, None, None]
    logits = np.broadcast_to(8 - away, GRID.shape).astype(np.float32)
    entry = replace(click((30, 10, 10), "necrosis"), reach=reach)
    corrector.follow(array, GRID, Answer(logits, GRID), entry, before, None)
    return array == NECROSIS


def test_more_reach_takes_in_what_less_does_and_the_prompts_hold(corrector: Corrector) -> None:
    earlier = [click((24, 10, 10), "edema")]
    for before in ([], earlier):
        changed = [reached(corrector, reach, before) for reach in (-1.0, -0.5, 0.0, 0.5, 1.0)]
        for less, more in pairwise(changed):
            assert (less <= more).all()
            assert np.count_nonzero(less) < np.count_nonzero(more)
        assert all(one[30, 10, 10] for one in changed), "the prompt's voxel has its label"
        assert not any(one[24, 10, 10] for one in changed) or not before, "an earlier prompt holds"
    np.testing.assert_array_equal(reached(corrector, 0.0, []), reached(corrector, -0.0, []))
