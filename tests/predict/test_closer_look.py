"""A second network of finer voxels looks at what the first has found, there alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slem_app import phantom
from slem_app.errors import BadCard, NotFound
from slem_app.grouping import group
from slem_app.network import build
from slem_app.predict import Predictor, Refiner, closer_look
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.volumes.prepare import Prepared
from slem_app.weights import Model, load_model, save_model
from slem_app.weights.folders import DETAIL_FILE
from tests.untrained import SMALL, noisy, small_card

SHAPE = (40, 48, 40)


def model(spacing: float, seed: int, **changes: object) -> Model:
    return Model(small_card(spacing, **changes), noisy(seed=seed).eval(), Path())


@pytest.fixture
def study(tmp_path: Path) -> Path:
    made = phantom.make(seed=3, shape=SHAPE, spacing=(2.0, 2.0, 2.0))
    return phantom.write_nifti(made, tmp_path / "studies", "case-1")


def prepared_of(predictor: Predictor, folder: Path) -> Prepared:
    source = open_source(folder)
    return predictor.prepare_case(group(source.study(source.ids()[0])))[0]


def in_the_middle(prepared: Prepared, size: int = 3) -> np.ndarray:
    """(3, I, J, K) probabilities of a cube in the middle of the network's grid."""
    found = np.zeros((3, *prepared.grid.shape), np.float32)
    found[(slice(None), *(slice(n // 2, n // 2 + size) for n in prepared.grid.shape))] = 0.9
    return found


def test_the_box_holds_what_was_found_and_its_voxels_lie_on_whole_millimetres(study: Path) -> None:
    predictor = Predictor(replace(model(4.0, 0), detail=model(2.0, 1)), precision="float32")
    prepared = prepared_of(predictor, study)
    found = in_the_middle(prepared)
    likely = predictor.look_again(prepared, found, {})
    grid = likely.grid
    assert grid.spacing == pytest.approx([2, 2, 2])
    assert all(n % 8 == 0 for n in grid.shape)
    np.testing.assert_allclose(grid.affine[:3, 3] / 2, np.round(grid.affine[:3, 3] / 2), atol=1e-6)
    places = prepared.grid.to_world(np.argwhere(found[0] > 0))
    inside = grid.to_index(places)
    assert (inside >= 0).all()
    assert (inside <= np.array(grid.shape) - 1).all()


def test_the_finer_answer_counts_two_thirds(study: Path) -> None:
    predictor = Predictor(replace(model(4.0, 0), detail=model(2.0, 1)), precision="float32")
    prepared = prepared_of(predictor, study)
    found = in_the_middle(prepared)
    likely = predictor.look_again(prepared, found, {})
    images = prepared.sources.on(likely.grid, prepared.sequences)
    alone = predictor.finer.probabilities(
        Prepared(images, prepared.present, prepared.sequences, likely.grid, likely.grid)
    )
    nothing = predictor.look_again(prepared, found * 0, {})
    assert np.array_equal(nothing.probabilities, found * 0)
    cube = likely.grid.to_index(prepared.grid.to_world(np.array([[n // 2 + 1 for n in prepared.grid.shape]])))
    place = tuple(np.round(cube[0]).astype(int))
    assert likely.probabilities[(0, *place)] == pytest.approx(0.3 + 2 * alone[(0, *place)] / 3, abs=1e-4)
    border = (0, 0, 0)
    assert likely.probabilities[(0, *border)] == pytest.approx(2 * alone[(0, *border)] / 3, abs=1e-4)


def test_on_the_networks_grid_only_the_box_differs(study: Path) -> None:
    predictor = Predictor(replace(model(4.0, 0), detail=model(2.0, 1)), precision="float32")
    prepared = prepared_of(predictor, study)
    found = in_the_middle(prepared, size=1)
    likely = predictor.look_again(prepared, found, {})
    known = likely.onto(found, prepared.grid)
    index = likely.grid.to_index(
        prepared.grid.to_world(np.stack(np.meshgrid(*map(np.arange, prepared.grid.shape), indexing="ij"), -1))
    )
    outside = ((index < -1) | (index > np.array(likely.grid.shape))).any(axis=-1)
    assert np.array_equal(known[:, outside], found[:, outside])
    assert not np.array_equal(known, found)


def test_what_is_too_large_is_not_looked_at_again(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(replace(model(4.0, 0), detail=model(2.0, 1)), precision="float32")
    prepared = prepared_of(predictor, study)
    monkeypatch.setattr(closer_look, "LARGEST", 100)
    found = in_the_middle(prepared)
    assert predictor.look_again(prepared, found, {}).probabilities is found


def test_the_automatic_result_is_that_from_which_clicks_start(study: Path) -> None:
    card = small_card(4.0, postprocess=replace(small_card().postprocess, threshold=0.02))
    coarse = Model(card, noisy(seed=0).eval(), Path())
    plain = Predictor(coarse, precision="float32")
    predictor = Predictor(replace(coarse, detail=model(2.0, 1)), precision="float32")
    prepared = prepared_of(predictor, study)
    result = predictor.predict(prepared)
    refiner = Refiner(predictor)
    start = refiner.start(prepared)
    assert np.array_equal(result.array, start.prediction.array)
    assert not np.array_equal(result.array, plain.predict(prepared).array)
    assert "detail" in result.timings
    assert start.probabilities.shape[1:] == prepared.grid.shape


def test_a_rotated_grid_has_a_rotated_box() -> None:
    turn = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * 4
    affine[:3, 3] = 10, 20, 30
    grid = Grid((32, 32, 32), affine)
    box = closer_look._finer_grid(grid, (slice(8, 12),) * 3, small_card(1.0).preparation)
    np.testing.assert_allclose(box.axes, turn, atol=1e-9)
    corners = grid.to_world(np.array([[8, 8, 8], [11, 11, 11]]))
    index = box.to_index(corners)
    assert (index >= 15).all()
    assert (index <= np.array(box.shape) - 16).all()


def test_it_is_found_on_the_shelf_and_must_have_the_same_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLEM_MODELS", str(tmp_path))
    save_model(tmp_path / "small", small_card(4.0, detail="small_detail"), build(SMALL))
    with pytest.raises(NotFound, match="small_detail"):
        load_model("small")
    save_model(tmp_path / "small_detail", small_card(2.0, name="small_detail"), build(SMALL))
    (tmp_path / "small_detail" / "card.yaml").rename(tmp_path / "small_detail" / DETAIL_FILE)
    loaded = load_model("small")
    assert loaded.detail.card.preparation.spacing == (2.0, 2.0, 2.0)
    with pytest.raises(NotFound, match="no model 'small_detail'"):
        load_model("small_detail")  # nobody asks for it by name
    others = replace(loaded.detail.card, sequences=("t1c", "t1n", "t2w", "t2f"))
    save_model(tmp_path / "small_detail", others, build(SMALL))
    (tmp_path / "small_detail" / "card.yaml").rename(tmp_path / "small_detail" / DETAIL_FILE)
    with pytest.raises(BadCard, match="other sequences or labels"):
        load_model("small")


def test_a_path_is_no_name_of_a_finer_model() -> None:
    with pytest.raises(BadCard, match="bare name"):
        small_card(detail="../elsewhere")
