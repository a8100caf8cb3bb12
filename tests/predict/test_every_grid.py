"""`CASE/SEQUENCE` is one segmentation of the case: whichever sequence a client names, the same place in the
world has the same label.
"""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from slem_app import phantom
from slem_app.grouping import group
from slem_app.predict import Prediction, Predictor
from slem_app.studies import open_source
from slem_app.weights import BRAIN_SEQUENCES, load_model


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prediction]:
    """The result for each sequence of an oblique case in which every sequence has a grid of its own."""
    head = phantom.make(seed=4, shape=(64, 72, 56), spacing=(2.5, 2.5, 2.5), oblique=True, own_grids=True)
    folder: Path = phantom.write_nifti(head, tmp_path_factory.mktemp("studies"), "case-1")
    case = group(open_source(folder).study("case-1"))
    predictor = Predictor(load_model("slem_brain"), precision="float32")
    return {name: predictor.predict_case(case, reference=name) for name in BRAIN_SEQUENCES}


def to_the_border(result: Prediction) -> np.ndarray:
    """(I, J, K) millimetres from each voxel to the nearest one of another label."""
    away = np.zeros(result.array.shape)
    for label in np.unique(result.array):
        mask = result.array == label
        away[mask] = ndimage.distance_transform_edt(mask, sampling=result.grid.spacing)[mask]
    return away


def test_the_grids_are_four_different_ones(results: dict[str, Prediction]) -> None:
    shapes = {result.array.shape for result in results.values()}
    planes = {tuple(np.round(result.grid.affine[:3, 2], 2)) for result in results.values()}
    assert len(shapes) == len(planes) == 4


@pytest.mark.parametrize("one", BRAIN_SEQUENCES)
@pytest.mark.parametrize("other", BRAIN_SEQUENCES)
def test_a_place_has_the_same_label_on_every_grid(
    results: dict[str, Prediction], one: str, other: str
) -> None:
    here, there = results[one], results[other]
    index = np.indices(here.array.shape).reshape(3, -1).T
    seen = np.round(there.grid.to_index(here.grid.to_world(index))).astype(int)
    inside = ((seen >= 0) & (seen < there.array.shape)).all(axis=1)
    index, seen = tuple(index[inside].T), tuple(seen[inside].T)
    # a border may lie half a voxel of either grid from where the other one draws it
    voxels = (np.linalg.norm(here.grid.spacing) + np.linalg.norm(there.grid.spacing)) / 2
    clear = np.minimum(to_the_border(here)[index], to_the_border(there)[seen]) > voxels
    mine, theirs = here.array[index], there.array[seen]
    np.testing.assert_array_equal(mine[clear], theirs[clear])
    assert (mine[clear] > 0).any()  # more than background was compared
    assert (mine == theirs)[(mine > 0) | (theirs > 0)].mean() > 0.6


def test_volumes_are_those_of_the_case_on_every_grid(results: dict[str, Prediction]) -> None:
    whole = {name: sum(result.volumes_ml().values()) for name, result in results.items()}
    assert max(whole.values()) < 1.05 * min(whole.values()), whole
