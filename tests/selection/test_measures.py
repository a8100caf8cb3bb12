"""What a model says of a case."""

import json
from dataclasses import replace

import numpy as np
import pytest

from slem_app.predict import Predictor
from slem_app.selection import LabelMap, Measures, measure
from slem_app.selection.measures import MIRRORS, change_of, entropy
from slem_app.types import Grid
from slem_app.volumes.prepare import Prepared
from slem_app.weights import BRAIN_LABELS


def test_entropy_is_one_bit_at_a_half_and_nothing_when_sure() -> None:
    np.testing.assert_allclose(entropy(np.array([0.0, 0.5, 1.0, 0.25])), [0, 1, 0, 0.8112781], atol=1e-4)


def test_measures_are_of_the_labels_that_are_found(predictor: Predictor, prepared: Prepared) -> None:
    measures, found = measure(predictor, prepared)
    assert found.grid == prepared.grid
    assert found.array.any()
    for label in BRAIN_LABELS.labels:
        assert measures.volumes_ml[label.name] == pytest.approx((found.array == label.value).sum() * 0.064)
    assert measures.foreground_ml == pytest.approx((found.array > 0).sum() * 0.064)
    counts = np.array([(found.array == label.value).sum() for label in BRAIN_LABELS.labels])
    parts = np.array([measures.uncertainty_in[label.name] for label in BRAIN_LABELS.labels])
    assert measures.uncertainty == pytest.approx((counts * parts).sum() / counts.sum(), rel=1e-3)
    assert measures.features.shape == (2 * 6,)
    assert measures.change is None


def test_the_ensemble_is_the_same_for_a_case_and_its_mirror_image(
    predictor: Predictor, prepared: Prepared
) -> None:
    """Of one axis the passes are each other's mirror images, so all but the other axes' passes agree: with
    all eight it would be exact.
    """
    once, _ = measure(predictor, prepared)
    again, _ = measure(predictor, prepared)
    assert once.uncertainty == again.uncertainty
    mirrored, _ = measure(predictor, replace(prepared, images=np.ascontiguousarray(prepared.images[:, ::-1])))
    assert mirrored.uncertainty == pytest.approx(once.uncertainty, rel=0.1)


def test_where_nothing_is_found_the_most_probable_voxels_count(blind: Predictor, prepared: Prepared) -> None:
    measures, found = measure(blind, prepared)
    assert not found.array.any()
    assert measures.foreground_ml == 0
    assert 0 < measures.uncertainty <= 1
    assert set(measures.uncertainty_in.values()) == {0.0}


def test_change_is_to_the_model_before(predictor: Predictor, later: Predictor, prepared: Prepared) -> None:
    _, before = measure(predictor, prepared)
    same, _ = measure(predictor, prepared, before)
    assert same.change == 0
    other, _ = measure(later, prepared, before)
    assert 0 < other.change <= 1
    assert set(other.change_in) == set(BRAIN_LABELS.names)


def test_a_result_on_another_grid_is_compared_in_space() -> None:
    fine = np.zeros((16, 16, 16), np.uint8)
    fine[4:12, 4:12, 4:12] = 2
    coarse = np.zeros((8, 8, 8), np.uint8)
    coarse[2:6, 2:6, 2:6] = 2
    shift = np.eye(4)
    shift[:3, 3] = 0.5
    grids = Grid((16, 16, 16), np.eye(4)), Grid((8, 8, 8), shift @ np.diag([2.0, 2.0, 2.0, 1.0]))
    by_region, by_label = change_of(LabelMap(coarse, grids[1]), LabelMap(fine, grids[0]), BRAIN_LABELS)
    assert by_label == {"necrosis": 0, "edema": 0, "enhancing tumor": 0}
    assert by_region["WT"] == 0


def test_it_can_be_interrupted_before_each_pass(predictor: Predictor, prepared: Prepared) -> None:
    class Interruption(Exception):
        pass

    calls = []
    measure(predictor, prepared, between=lambda: calls.append(1))
    assert len(calls) == len(MIRRORS) + 1

    def stop() -> None:
        raise Interruption

    with pytest.raises(Interruption):
        measure(predictor, prepared, between=stop)


def test_a_large_volume_is_looked_at_by_windows(predictor: Predictor, prepared: Prepared) -> None:
    small = Predictor(
        predictor.model, inference=replace(predictor.inference, one_pass=0, window=(24, 24, 24))
    )
    assert measure(small, prepared)[0].features.shape == (12,)


def test_measures_survive_json(predictor: Predictor, later: Predictor, prepared: Prepared) -> None:
    measures, _ = measure(later, prepared, measure(predictor, prepared)[1])
    back = Measures.from_table(json.loads(json.dumps(measures.to_table())))
    np.testing.assert_allclose(back.features, measures.features, atol=1e-6)
    assert back.to_table() == measures.to_table()
