"""From a case to a label map on the reference grid."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slem_app import phantom
from slem_app.errors import BadSetting, BadStudy, NoMemory, NotFound
from slem_app.grouping import group
from slem_app.predict import Prediction, Predictor
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.volumes.prepare import Prepared
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, Inference, Model

SHAPE = (64, 72, 56)


@pytest.fixture(scope="module")
def case() -> phantom.Phantom:
    return phantom.make(seed=3, shape=SHAPE, spacing=(2.0, 2.0, 2.0))


def prepared(shape: tuple[int, int, int] = (32, 40, 24), missing: tuple[int, ...] = ()) -> Prepared:
    images = np.random.default_rng(0).standard_normal((4, *shape)).astype(np.float32)
    present = np.array([slot not in missing for slot in range(4)])
    grid = Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0]))
    return Prepared(images, present, BRAIN_SEQUENCES, grid, grid)


def folder(case: phantom.Phantom, path: Path, drop: tuple[str, ...] = ()) -> Path:
    images = {name: image for name, image in case.images.items() if name not in drop}
    return phantom.write_nifti(replace(case, images=images), path, "case-1")


def segment(model: Model, path: Path, **options: object) -> Prediction:
    source = open_source(path)
    return Predictor(model, precision="float32").predict_case(group(source.study(source.ids()[0])), **options)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * float((a & b).sum()) / float(a.sum() + b.sum())


def test_one_pass_is_the_network_itself(fresh: Model) -> None:
    study = prepared()
    got = Predictor(fresh, precision="float32").probabilities(study)
    want = torch.sigmoid(
        fresh.network(torch.from_numpy(study.images)[None], torch.ones(1, 4, dtype=torch.bool))
    )[0]
    assert got.shape == (3, 32, 40, 24)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want.detach().numpy(), atol=1e-6)


def test_windows_agree_with_one_pass_where_the_network_is_local(thresholds: Model) -> None:
    study = prepared((40, 56, 32))
    whole = Predictor(thresholds, precision="float32").probabilities(study)
    windows = Predictor(
        thresholds, precision="float32", inference=Inference(one_pass=0, window=(16, 24, 64))
    ).probabilities(study)
    np.testing.assert_allclose(windows, whole, atol=1e-5)


def test_windows_of_a_real_network_cover_the_volume(fresh: Model) -> None:
    study = prepared((40, 56, 32), missing=(0,))
    windows = Predictor(
        fresh, precision="float32", inference=replace(fresh.card.inference, one_pass=1000)
    ).probabilities(study)
    whole = Predictor(fresh, precision="float32").probabilities(study)
    assert windows.shape == whole.shape
    assert np.isfinite(windows).all()
    assert np.corrcoef(windows.ravel(), whole.ravel())[0, 1] > 0.8


def test_mirrored_passes_are_averaged(fresh: Model) -> None:
    study = prepared()
    plain = Predictor(fresh, precision="float32")
    both = Predictor(
        fresh, precision="float32", inference=replace(fresh.card.inference, mirror=(0,))
    ).probabilities(study)
    flipped = replace(study, images=study.images[:, ::-1].copy())
    np.testing.assert_allclose(
        both, (plain.probabilities(study) + plain.probabilities(flipped)[:, ::-1]) / 2, atol=1e-6
    )
    assert np.abs(both - plain.probabilities(study)).max() > 1e-3


def test_a_missing_sequence_is_never_looked_at(fresh: Model) -> None:
    study = prepared(missing=(2,))
    rubbish = study.images.copy()
    rubbish[2] = 1e4
    predictor = Predictor(fresh, precision="float32")
    np.testing.assert_array_equal(
        predictor.probabilities(study), predictor.probabilities(replace(study, images=rubbish))
    )
    assert (
        np.abs(
            predictor.probabilities(study) - predictor.probabilities(replace(study, present=np.ones(4, bool)))
        ).max()
        > 1e-3
    )


def test_bfloat16_agrees_with_single_precision(fresh: Model) -> None:
    study = prepared()
    single, half = (Predictor(fresh, precision=p).probabilities(study) for p in ("float32", "bfloat16"))
    assert half.dtype == np.float32
    assert ((single > 0.5) == (half > 0.5)).mean() > 0.97
    assert np.abs(single - half).mean() < 0.01


def test_refuses_an_unknown_precision(fresh: Model) -> None:
    with pytest.raises(BadSetting, match="unknown precision 'int4': use auto, float32, bfloat16"):
        Predictor(fresh, precision="int4")


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_processor(fresh: Model) -> None:
    study = prepared()
    processor = Predictor(fresh, "cpu", "float32").probabilities(study)
    gpu = Predictor(fresh, "cuda").probabilities(study)
    assert ((processor > 0.5) == (gpu > 0.5)).mean() > 0.97


def test_a_gpu_without_memory_is_told_and_the_next_case_is_done(
    fresh: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(fresh)

    def full(*_: object) -> torch.Tensor:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched:
        patched.setattr(predictor, "_run", full)
        with pytest.raises(
            NoMemory, match="the memory of cpu is too small for 32x40x24 voxels of small: use the device cpu"
        ):
            predictor.probabilities(prepared())
    assert predictor.probabilities(prepared()).shape[1:] == (32, 40, 24)


def test_volumes_are_counted_by_the_voxel_of_the_result() -> None:
    array = np.zeros((10, 10, 10), np.uint8)
    array[0], array[1, :5], array[2, 0, 0] = 2, 1, 3
    grid = Grid(array.shape, np.array([[0, 0.5, 0, 9], [1, 0, 0, 9], [0, 0, 4.0, 9], [0, 0, 0, 1]]))
    got = Prediction(array, grid, BRAIN_LABELS, ("t1c",), ()).volumes_ml()
    assert got == pytest.approx(
        {"necrosis": 0.1, "edema": 0.2, "enhancing tumor": 0.002, "WT": 0.302, "TC": 0.102}
    )


def test_a_case_comes_back_on_the_grid_of_its_reference(
    thresholds: Model, case: phantom.Phantom, tmp_path: Path
) -> None:
    own = phantom.make(seed=3, shape=SHAPE, spacing=(2.0, 2.0, 2.0), own_grids=True, oblique=True)
    path = folder(own, tmp_path)
    result = segment(thresholds, path)
    assert result.grid.same_as(own.grids["t1c"])
    assert result.array.shape == own.grids["t1c"].shape
    assert result.array.dtype == np.uint8
    assert dice(result.array > 0, own.labels > 0) > 0.7
    assert result.used == BRAIN_SEQUENCES
    assert result.missing == ()
    assert list(result.timings) == ["read", "prepare", "network", "restore"]
    assert all(seconds > 0 for seconds in result.timings.values())
    other = segment(thresholds, path, reference="t2f")
    assert other.grid.same_as(own.grids["t2f"])
    assert not other.grid.same_as(result.grid)
    assert other.volumes_ml()["WT"] == pytest.approx(result.volumes_ml()["WT"], rel=0.1)


def test_missing_sequences_are_told_and_done_without(
    fresh: Model, case: phantom.Phantom, tmp_path: Path
) -> None:
    result = segment(fresh, folder(case, tmp_path, drop=("t1c", "t1n")))
    assert result.used == ("t2w", "t2f")
    assert result.missing == ("t1n", "t1c")
    assert result.grid.same_as(case.grids["t2f"])


@pytest.mark.parametrize("code", ["RAS", "PIL", "SAR"])
def test_storage_order_does_not_change_the_result(
    thresholds: Model, case: phantom.Phantom, tmp_path: Path, code: str
) -> None:
    turned = phantom.reorient_phantom(case, code)
    first = segment(thresholds, folder(case, tmp_path / "a"))
    second = segment(thresholds, folder(turned, tmp_path / "b"))
    assert second.grid.orientation == code
    back, grid = phantom.reorient(second.array, second.grid, first.grid.orientation)
    assert grid.same_as(first.grid)
    assert (first.array > 0).sum() > 500
    assert (back == first.array).mean() > 0.999
    assert dice(back > 0, first.array > 0) > 0.99


def test_refuses_a_case_without_a_known_sequence_and_an_unknown_reference(
    thresholds: Model, case: phantom.Phantom, tmp_path: Path
) -> None:
    path = folder(case, tmp_path, drop=("t2w",))
    with pytest.raises((NotFound, BadStudy), match="t2w"):
        segment(thresholds, path, reference="t2w")
    stranger = replace(
        thresholds, card=replace(thresholds.card, sequences=("a", "b", "c", "d"), reference_order=("a",))
    )
    with pytest.raises(BadStudy, match="a"):
        segment(stranger, path)
