"""The bundled weights on a real case: a sanity check of the whole way, not a measure of quality (they were
trained on these cases).
"""

from pathlib import Path

import pytest

from slem_app.errors import NotFound
from slem_app.evaluate.scores import dice
from slem_app.grouping import Grouping, group
from slem_app.predict import Prediction, Predictor
from slem_app.studies import open_source
from slem_app.volumes.read import read_labels
from slem_app.weights import Model, load_model


@pytest.fixture(scope="module")
def bundled() -> Model:
    try:
        return load_model("slem_brain")
    except NotFound:
        pytest.skip("no pretrained/slem_brain here")


@pytest.fixture(scope="module")
def case(real_data: Path) -> Grouping:
    if not (real_data / "brats").is_dir():
        pytest.skip(f"no brats folder in {real_data}")
    source = open_source(real_data / "brats")
    return group(source.study(source.ids()[0]))


@pytest.fixture(scope="module")
def result(bundled: Model, case: Grouping) -> Prediction:
    return Predictor(bundled, precision="float32").predict_case(case)


def test_finds_the_tumour_on_the_grid_of_the_case(result: Prediction, case: Grouping) -> None:
    truth, grid = read_labels(case.study.label)
    assert result.grid.same_as(grid)
    assert dice(result.array > 0, truth > 0) > 0.75
    assert result.labels.names == ("necrosis", "edema", "enhancing tumor")
    assert sum(result.volumes_ml()[name] for name in result.labels.names) == pytest.approx(
        (result.array > 0).sum() * grid.voxel_volume / 1000
    )


@pytest.mark.slow  # on a CPU without bfloat16; test_predictor.py compares the two on a small model
def test_half_precision_arithmetic_changes_next_to_nothing(
    bundled: Model, case: Grouping, result: Prediction
) -> None:
    half = Predictor(bundled, precision="bfloat16").predict_case(case).array
    for value in (1, 2, 3):
        assert dice(result.array == value, half == value) > 0.98


def test_one_sequence_is_enough_for_an_answer(bundled: Model, case: Grouping) -> None:
    alone = group(case.study, chosen={"t2f": case.sequences["t2f"].id})
    lone = Grouping(
        alone.study, tuple(choice for choice in alone.choices if choice.sequence == "t2f"), alone.leftovers
    )
    result = Predictor(bundled).predict_case(lone)
    assert result.missing == ("t1n", "t1c", "t2w")
    truth, _ = read_labels(case.study.label)
    assert dice(result.array > 0, truth > 0) > 0.4
