"""However a case is stored, the reader gets the same result in world space. With the bundled weights, on
phantoms and on a real case.
"""

from pathlib import Path

import numpy as np
import pytest

from slem_app import phantom
from slem_app.errors import NotFound
from slem_app.grouping import group
from slem_app.predict import Prediction, Predictor
from slem_app.studies import open_source
from slem_app.types import Grid
from slem_app.volumes.geometry import resample
from slem_app.volumes.prepare import Volume, prepare
from slem_app.volumes.read import read_all
from slem_app.weights import load_model

TURN = np.array([9.0, -7.0, 12.0])  # degrees about R, A, S


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    try:
        return Predictor(load_model("slem_brain"))
    except NotFound:
        pytest.skip("no pretrained/slem_brain here")


@pytest.fixture(scope="module")
def head() -> dict[str, Volume]:
    case = phantom.make(seed=3, shape=(128, 152, 120))
    return {name: Volume(image, case.grids[name]) for name, image in case.images.items()}


@pytest.fixture(scope="module")
def real(real_data: Path) -> dict[str, Volume]:
    if not (real_data / "brats").is_dir():
        pytest.skip(f"no brats folder in {real_data}")
    source = open_source(real_data / "brats")
    volumes = read_all(group(source.study(source.ids()[1])).sequences)
    inside = np.argwhere(volumes["t1c"].array != volumes["t1c"].array.min())  # outside there is nothing
    low, shape = inside.min(axis=0), np.ptp(inside, axis=0) + 1
    box = tuple(slice(start, start + size) for start, size in zip(low, shape))
    return {
        name: Volume(v.array[box].copy(), v.grid.crop(tuple(low), tuple(shape)))
        for name, v in volumes.items()
    }


@pytest.fixture(scope="module")
def expected(predictor: Predictor, head: dict[str, Volume]) -> Prediction:
    return segment(predictor, head)


@pytest.fixture(scope="module")
def expected_of_real(predictor: Predictor, real: dict[str, Volume]) -> Prediction:
    return segment(predictor, real)


def segment(predictor: Predictor, volumes: dict[str, Volume]) -> Prediction:
    card = predictor.card
    return predictor.predict(prepare(volumes, card.sequences, card.preparation, volumes["t1c"].grid))


def oblique(volumes: dict[str, Volume]) -> dict[str, Volume]:
    """The same head on voxel axes turned against the world, in a field of view that holds it all."""
    grid = volumes["t1c"].grid
    turn = phantom.head.rotation(TURN)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(grid.spacing)
    shape = np.array(grid.shape) + 24
    affine[:3, 3] = grid.to_world((np.array(grid.shape) - 1) / 2) - affine[:3, :3] @ ((shape - 1) / 2)
    turned = Grid(tuple(shape), affine)
    return {
        name: Volume(resample(v.array, v.grid, turned, order=1, fill=float(v.array.min())), turned)
        for name, v in volumes.items()
    }


def agreement(result: Prediction, expected: Prediction) -> tuple[float, float]:
    """Share of voxels with the same label, and Dice of the whole tumour, on the expected result's grid."""
    there = resample(result.array, result.grid, expected.grid, order=0)
    same = float((there == expected.array).mean())
    return same, 2 * float(((there > 0) & (expected.array > 0)).sum()) / float(
        (there > 0).sum() + (expected.array > 0).sum()
    )


@pytest.mark.parametrize("code", ["LPS", "RAS", "PIL"])
def test_axes_swapped_or_flipped_change_nothing(
    predictor: Predictor, head: dict[str, Volume], expected: Prediction, code: str
) -> None:
    stored = {name: Volume(*phantom.reorient(v.array, v.grid, code)) for name, v in head.items()}
    assert (expected.array > 0).sum() > 1000
    # rounding alone: axes are interpolated in the order of memory
    assert min(agreement(segment(predictor, stored), expected)) > 0.9995


def test_oblique_storage_gives_the_same_tumour(
    predictor: Predictor, head: dict[str, Volume], expected: Prediction
) -> None:
    same, dice = agreement(segment(predictor, oblique(head)), expected)
    assert same >= 0.99
    assert dice >= 0.93


@pytest.mark.parametrize("storage", ["RAS", "PIL", "oblique"])
def test_a_real_case_keeps_its_tumour_in_any_storage(
    predictor: Predictor, real: dict[str, Volume], expected_of_real: Prediction, storage: str
) -> None:
    stored = (
        oblique(real)
        if storage == "oblique"
        else {name: Volume(*phantom.reorient(v.array, v.grid, storage)) for name, v in real.items()}
    )
    same, dice = agreement(segment(predictor, stored), expected_of_real)
    assert same >= 0.99
    # the oblique copy is interpolated once more, and so smoother
    assert dice >= (0.92 if storage == "oblique" else 0.9995)
