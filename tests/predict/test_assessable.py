"""Nothing is called enhancing without a T1 after contrast, nothing edema without FLAIR or T2."""

from dataclasses import replace

import numpy as np
import pytest

from slem_app.errors import BadStudy
from slem_app.predict import Prediction, answer, assessed
from slem_app.result_warning import ResultWarning
from slem_app.types import Grid
from slem_app.volumes.coverage import ONE_IMAGE
from slem_app.weights import BRAIN_LABELS

ALL = ("t1n", "t1c", "t2w", "t2f")


def prediction(*used: str, known: tuple[str, ...] = ALL) -> Prediction:
    array = np.zeros((4, 4, 4), np.uint8)
    array[0], array[1], array[2] = 1, 2, 3
    missing = tuple(name for name in known if name not in used)
    return Prediction(array, Grid(array.shape, np.eye(4)), BRAIN_LABELS, used, missing, notes=("first",))


@pytest.mark.parametrize("used", [ALL, ("t1c", "t2w"), ("t1c", "t2f")])
def test_a_case_that_has_what_is_needed_is_left_as_it_is(used):
    given = prediction(*used)
    assert assessed(given) is given


def test_without_contrast_the_core_is_one_label_and_its_volume_still_counts():
    told = assessed(prediction("t1n", "t2w", "t2f"))
    assert sorted(np.unique(told.array)) == [0, 1, 2]
    assert (told.array[2] == 1).all()
    assert told.not_assessable == ("enhancing tumor",)
    [warning] = told.warnings
    assert warning.code == "enhancement-not-assessable"
    assert "enhancement cannot be assessed without a T1 after contrast" in warning.text
    assert told.notes == ("first",)
    volumes = told.volumes_ml()
    assert "enhancing tumor" not in volumes
    assert volumes["TC"] == pytest.approx(32e-3)
    assert volumes["WT"] == pytest.approx(48e-3)


def test_without_t2_and_flair_no_edema_is_given_and_the_whole_tumor_is_not_measured():
    told = assessed(prediction("t1n", "t1c"))
    assert sorted(np.unique(told.array)) == [0, 1, 3]
    assert told.not_assessable == ("edema",)
    assert set(told.volumes_ml()) == {"necrosis", "enhancing tumor", "TC"}


def test_by_a_single_t1_nothing_is_claimed():
    unsure = ResultWarning("unsure-result", "the model is not sure")
    given = replace(prediction("t1n"), warnings=(unsure,))
    told = assessed(given)
    assert not told.array.any()
    assert told.not_assessable == BRAIN_LABELS.names
    assert [one.code for one in told.warnings] == ["t1-alone"], "what was doubtful is not given"
    assert told.volumes_ml() == {}


def test_an_automatic_segmentation_by_a_single_t1_is_refused_with_what_to_do():
    with pytest.raises(BadStudy, match="add FLAIR, T2 or a T1 after contrast, or segment by hand"):
        answer(prediction("t1n"))
    assert answer(prediction("t1n", "t1c")).array.any()


def test_of_one_image_under_all_names_nothing_is_shown():
    large = ResultWarning("large-result", "490 ml were segmented")
    told = assessed(replace(prediction(*ALL), warnings=(ONE_IMAGE, large)))
    assert not told.array.any()
    assert told.warnings == (ONE_IMAGE,)
    assert told.volumes_ml() == {}


def test_one_image_under_all_names_is_refused():
    given = replace(prediction(*ALL), warnings=(ONE_IMAGE,))
    with pytest.raises(BadStudy, match="all sequences of this study are the same image"):
        answer(given)


def test_a_model_that_never_knew_the_sequence_is_taken_at_its_word():
    given = prediction("t1n", "t2f", known=("t1n", "t2f"))
    assert assessed(given) is given
