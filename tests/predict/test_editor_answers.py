"""What an editor says to a prompt, beside what the automatic result is sure of."""

import numpy as np

from slem_app.phantom import Phantom
from slem_app.predict import EditSettings, Predictor, Refiner
from slem_app.predict.answers import Answer, Automatic
from slem_app.prompts import BACKGROUND, Click
from slem_app.weights import BRAIN_LABELS, Model
from tests.predict.language import middle, prepared

EDEMA = 2


def answered(model: Model, case: Phantom, label: str, sure: float) -> Answer:
    """What is said to a click into the edema."""
    refiner = Refiner(Predictor(model, precision="float32"), EditSettings(sure=sure, sure_from=0.5))
    study = prepared(case, model.card)
    start = refiner.start(study)
    click = Click.on(study.reference, middle(case, EDEMA), label, BRAIN_LABELS)
    automatic = Automatic(start.probabilities, study.grid)
    shown, detail = start.prediction.array, refiner.detail(study)
    return refiner.corrector.answers.answer(shown, study.reference, detail, automatic, click, ())


def test_background_must_be_surer_where_the_automatic_result_is_sure(edited: Model, case: Phantom) -> None:
    plain, doubting = (answered(edited, case, BACKGROUND, sure).logits for sure in (0.0, 2.0))
    assert (doubting <= plain).all()
    assert 0 < (doubting < plain).mean() < 0.5


def test_a_label_that_was_missed_needs_no_more_where_the_automatic_result_is_sure(
    edited: Model, case: Phantom
) -> None:
    plain, doubting = (answered(edited, case, "necrosis", sure).logits for sure in (0.0, 2.0))
    np.testing.assert_array_equal(plain, doubting)
