"""What interactions on one object say of a model's labels."""

import numpy as np
import pytest

from slem_app.errors import BadPrompt, NotFound
from slem_app.prompts import BACKGROUND, Click, Scribble
from slem_app.serving.nninteractive.objects import SegmentedObject, object_names
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS

GRID = Grid((12, 10, 8), np.diag([-1.0, -1.0, 2.0, 1.0]))
WT, TC, ET = (SegmentedObject.named(name, BRAIN_LABELS) for name in ("WT", "TC", "ET"))


@pytest.fixture
def shown() -> np.ndarray:
    """Edema in 2..7, in it enhancing tumor with one voxel of necrosis; and a second piece of edema."""
    array = np.zeros(GRID.shape, dtype=np.uint8)
    array[2:8, 2:8, 2:6] = 2
    array[4:6, 4:6, 3:5] = 3
    array[4, 4, 3] = 1
    array[10, 2:4, 3] = 2
    return array


def test_regions_come_first_and_the_first_is_the_default() -> None:
    assert object_names(BRAIN_LABELS) == ("WT", "TC", "ET", "necrosis", "edema", "enhancing tumor")
    assert SegmentedObject.named("", BRAIN_LABELS) == WT
    with pytest.raises(NotFound, match="no object 'liver': this model has WT, TC"):
        SegmentedObject.named("liver", BRAIN_LABELS)


@pytest.mark.parametrize(
    ("one", "own", "around"),
    [(WT, "edema", BACKGROUND), (TC, "necrosis", "edema"), (ET, "enhancing tumor", "necrosis")],
)
def test_outside_the_object_is_what_surrounds_it(one: SegmentedObject, own: str, around: str) -> None:
    assert (one.own, one.around) == (own, around)


@pytest.mark.parametrize(
    ("one", "voxel", "positive", "label"),
    [
        (WT, (0, 0, 0), True, "edema"),
        (WT, (4, 4, 3), True, "necrosis"),
        (WT, (4, 4, 3), False, BACKGROUND),
        (WT, (0, 0, 0), False, BACKGROUND),
        (ET, (5, 5, 3), False, "necrosis"),
        (ET, (2, 2, 2), False, "edema"),
        (TC, (2, 2, 2), True, "necrosis"),
    ],
)
def test_a_point_means_a_label(
    shown: np.ndarray, one: SegmentedObject, voxel: tuple, positive: bool, label: str
) -> None:
    assert one.point(voxel, positive, shown, GRID) == (Click.on(GRID, voxel, label),)


def test_a_point_outside_the_image_is_refused(shown: np.ndarray) -> None:
    with pytest.raises(BadPrompt, match="the point at"):
        WT.point((12, 0, 0), True, shown, GRID)


def test_a_scribble_says_of_each_voxel_what_a_point_would_what_is_wrong_first(shown: np.ndarray) -> None:
    painted = np.zeros(GRID.shape, dtype=bool)
    painted[4, :, 3] = True
    entries = WT.scribble(painted, True, shown, GRID)
    assert [entry.label for entry in entries] == ["edema", "necrosis", "enhancing tumor"]
    voxels = [tuple(voxel) for entry in entries for voxel in entry.voxels(GRID)]
    assert sorted(voxels) == sorted(map(tuple, np.argwhere(painted)))


def test_a_flat_outline_cuts_the_piece_that_crosses_it_in_its_plane_alone(shown: np.ndarray) -> None:
    inside = np.zeros(GRID.shape, dtype=bool)
    inside[2:6, 2:8, 3] = True
    (entry,) = WT.outline(inside, True, shown, GRID)
    assert isinstance(entry, Scribble)
    assert entry.label == BACKGROUND
    voxels = entry.voxels(GRID)
    assert set(voxels[:, 2]) == {3}
    assert set(voxels[:, 0]) == {6, 7}


def test_a_flat_outline_around_nothing_paints_what_is_well_inside_and_limits_it(shown: np.ndarray) -> None:
    inside = np.zeros(GRID.shape, dtype=bool)
    inside[0:6, 0:6, 7] = True
    (entry,) = WT.outline(inside, True, shown, GRID)
    assert entry.label == "edema"
    painted = {tuple(voxel) for voxel in entry.voxels(GRID)}
    assert painted == {(i, j, 7) for i in range(1, 5) for j in range(1, 5)}
    beside = entry.beside(GRID)
    np.testing.assert_array_equal(beside[:, :, 7], ~inside[:, :, 7])
    assert not beside[:, :, :7].any()


def test_an_outline_of_several_slices_around_nothing_is_a_point_in_its_middle(shown: np.ndarray) -> None:
    inside = np.zeros(GRID.shape, dtype=bool)
    inside[9:12, 5:8, 5:8] = True
    assert WT.outline(inside, True, shown, GRID) == (Click.on(GRID, (10, 6, 5), "edema"),)


def test_an_outline_around_the_whole_object_says_nothing_more(shown: np.ndarray) -> None:
    inside = np.zeros(GRID.shape, dtype=bool)
    inside[1:9, 1:9, 3] = True
    assert WT.outline(inside, True, shown, GRID) == ()


def test_a_negative_outline_takes_the_object_away_inside_it(shown: np.ndarray) -> None:
    inside = np.zeros(GRID.shape, dtype=bool)
    inside[9:, :, 3] = True
    (entry,) = WT.outline(inside, False, shown, GRID)
    assert entry.label == BACKGROUND
    assert len(entry.voxels(GRID)) == 2
    inside[:, :, :] = False
    inside[0, 0, 0] = True
    assert WT.outline(inside, False, shown, GRID) == ()


def test_a_segmentation_keeps_what_is_known_inside_and_around(shown: np.ndarray) -> None:
    mask = ET.mask(shown).copy()
    mask[5, 5, 3], mask[2, 2, 2] = False, True
    array = ET.label_map(mask, shown)
    assert np.array_equal(ET.mask(array), mask)
    assert (array[5, 5, 3], array[2, 2, 2], array[4, 4, 3], array[7, 7, 5]) == (1, 3, 1, 2)


def test_a_closed_scribble_says_nothing_of_what_it_encloses(shown: np.ndarray) -> None:
    ring = np.zeros(GRID.shape, dtype=bool)
    ring[2:6, 2:8, 3] = True
    ring[3:5, 3:7, 3] = False
    entries = WT.scribble(ring, True, shown, GRID)
    assert sum(len(entry.voxels(GRID)) for entry in entries) == ring.sum()
    assert all(entry.within is None for entry in entries)
