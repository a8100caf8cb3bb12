"""Resampling by affines: exact on shared lattices, linear between, fill outside; impossible grids refused."""

from itertools import permutations

import numpy as np
import pytest
from scipy import ndimage

from slem_app.errors import BadGrid
from slem_app.phantom import make, reorient
from slem_app.types import Grid
from slem_app.volumes.geometry import (
    bounding_box,
    check_grid,
    cropped,
    lattice,
    overlap,
    resample,
    squared_distance,
)

RNG = np.random.default_rng(0)
CODES = [
    f"{a}{b}{c}"
    for order in permutations(["RL", "AP", "SI"])
    for a in order[0]
    for b in order[1]
    for c in order[2]
]


def straight(shape, spacing=(1.0, 1.0, 1.0), origin=(0.0, 0.0, 0.0)) -> Grid:
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


def turned(shape, degrees=20.0, spacing=(1.0, 1.0, 1.0)) -> Grid:
    a = np.deg2rad(degrees)
    x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = z @ x * spacing
    affine[:3, 3] = [1.5, -2.0, 3.0]
    return Grid(shape, affine)


def sampled(array: np.ndarray, source: Grid, target: Grid, order: int, fill: float) -> np.ndarray:
    """The slow and plain way: every target voxel's position in the source, by map_coordinates; half a voxel
    beyond the border counts as inside.
    """
    points = np.stack(np.meshgrid(*(np.arange(n) for n in target.shape), indexing="ij"), axis=-1)
    index = np.moveaxis(source.to_index(target.to_world(points)), -1, 0)
    limit = np.array(source.shape).reshape(3, 1, 1, 1)
    values = ndimage.map_coordinates(array, index, order=order, mode="nearest")
    return np.where(((index < -0.5) | (index > limit - 0.5)).any(axis=0), fill, values)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("code", CODES)
def test_every_axis_order_and_flip_is_undone_exactly(code, order):
    array = RNG.standard_normal((5, 6, 7)).astype(np.float32)
    source = straight((5, 6, 7), (1.0, 1.5, 3.1), (-7.3, 4.2, 0.9))
    moved, grid = reorient(array, source, code)
    assert grid.orientation == code
    np.testing.assert_array_equal(resample(moved, grid, source, order), array)
    np.testing.assert_array_equal(resample(array, source, grid, order), moved)


@pytest.mark.parametrize("stored", ["C", "F"])
def test_memory_order_changes_nothing(stored):
    array = RNG.standard_normal((9, 8, 7)).astype(np.float32)
    source, target = straight((9, 8, 7), (1, 2, 3)), straight((12, 13, 14), (0.8, 1.1, 1.3), (-1, 0.3, 0.2))
    np.testing.assert_allclose(
        resample(np.asarray(array, order=stored), source, target, 1),
        resample(array, source, target, 1),
        atol=1e-6,
    )


def test_a_crop_on_the_same_lattice_copies_and_fills():
    array = RNG.standard_normal((6, 6, 6)).astype(np.float32)
    source = turned((6, 6, 6))
    result = resample(array, source, source.crop((2, -2, 0), (6, 6, 6)), order=1, fill=-5.0)
    np.testing.assert_array_equal(result[:4, 2:, :], array[2:, :4, :])
    assert (result[4:] == -5).all()
    assert (result[:, :2] == -5).all()


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (straight((9, 10, 11), (2.0, 3.0, 1.0)), straight((20, 21, 9), (0.71, 1.4, 1.51), (-2.0, 1.0, 0.3))),
        (straight((9, 10, 11), (1.0, 1.0, 5.5)), turned((12, 13, 14))),
        (turned((9, 10, 11), 35.0), straight((16, 15, 14), origin=(-6, -5, -4))),
        (turned((9, 10, 11), 20.0), turned((9, 10, 11), 20.0, (1.31, 0.61, 2.03))),
        (straight((9, 10, 1)), straight((9, 10, 4), (0.51, 0.51, 0.4), (0, 0, -0.41))),
    ],
    ids=["straight", "to oblique", "from oblique", "both oblique alike", "one slice"],
)
@pytest.mark.parametrize("order", [0, 1])
def test_agrees_with_sampling_point_by_point(source, target, order):
    array = RNG.standard_normal(source.shape).astype(np.float32)
    expected = sampled(array, source, target, order, fill=7.0)
    result = resample(array, source, target, order, fill=7.0)
    assert result.shape == target.shape
    wrong = np.abs(result - expected) > 1e-4
    # a nearest neighbour may tip over at exactly half a voxel
    assert wrong.mean() < (0.02 if order == 0 else 1e-9)
    assert (result == 7.0).any()


def test_outside_is_fill_and_the_border_is_the_edge_of_the_voxel():
    array = np.ones((4, 4, 4), np.float32)
    source = straight((4, 4, 4))
    for degrees in (0.0, 0.5):
        target = Grid((11, 4, 4), turned((1, 1, 1), degrees).affine @ np.diag([0.25, 1, 1, 1]))
        target = Grid(
            target.shape,
            np.block([[target.affine[:3, :3], np.array([[2.6], [1], [1]])], [np.array([[0, 0, 0, 1.0]])]]),
        )
        inside = resample(array, source, target, 1, fill=9.0)[:, 0, 0]
        np.testing.assert_array_equal(inside, [1] * 4 + [9] * 7)  # x = 2.6 2.85 3.1 3.35 | 3.6 ...


@pytest.mark.parametrize("code", ["RAS", "PIL", "SAR"])
def test_labels_survive_the_round_trip(code):
    case = make(1, (40, 46, 34), (4.0, 4.0, 4.0))
    moved, grid = reorient(case.labels, case.grid, code)
    back = resample(resample(case.labels, case.grid, grid, 0), grid, case.grid, 0)
    np.testing.assert_array_equal(back, case.labels)
    assert back.dtype == case.labels.dtype
    np.testing.assert_array_equal(resample(case.labels, case.grid, grid, 0), moved)


def test_labels_survive_a_finer_oblique_grid():
    labels = (RNG.random((12, 12, 12)) > 0.5).astype(np.uint8)
    source = straight((12, 12, 12), (3, 3, 3))
    fine = turned((1, 1, 1), 15.0, (0.7, 0.7, 0.7)).affine.copy()
    fine[:3, 3] = [-15, -25, -25]
    fine = Grid((90, 90, 110), fine)
    np.testing.assert_array_equal(
        resample(resample(labels, source, fine, 0), fine, source, 0)[2:-2, 2:-2, 2:-2],
        labels[2:-2, 2:-2, 2:-2],
    )


@pytest.mark.parametrize(
    ("affine", "text"),
    [
        (np.diag([1.0, 0.0, 1.0, 1.0]), "zero axis"),
        (np.zeros((4, 4)), "zero axis"),
        (np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "zero axis"),
        (np.array([[1, 0.1, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "sheared"),
        (np.diag([1.0, np.nan, 1.0, 1.0]), "not finite"),
        (np.array([[1, 0, 0, np.inf], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), "not finite"),
    ],
)
def test_impossible_affines_are_refused_by_name(affine, text):
    with pytest.raises(BadGrid, match=f"case7: its a.*{text}"):
        check_grid(Grid((4, 4, 4), affine), "case7")


def test_rounding_in_a_header_is_no_shear():
    affine = turned((4, 4, 4)).affine.astype(np.float32).astype(np.float64)
    affine[0, 1] += 0.005
    check_grid(Grid((4, 4, 4), affine), "case")


def test_lattice_covers_all_grids_on_whole_multiples():
    grids = [straight((10, 10, 10), (2, 2, 2), (0.4, -3.3, 7)), turned((12, 12, 12))]
    full = lattice(grids, (1.5, 1.5, 2.0))
    assert full.orientation == "RAS"
    np.testing.assert_allclose(
        full.affine[:3, 3] / [1.5, 1.5, 2.0], np.round(full.affine[:3, 3] / [1.5, 1.5, 2.0])
    )
    for grid in grids:
        index = full.to_index(grid.corners())
        assert (index > -1e-5).all()
        assert (index < np.array(full.shape) - 1 + 1e-5).all()


@pytest.mark.parametrize("code", ["LPS", "PIL", "SAR"])
def test_lattice_does_not_depend_on_how_the_voxels_are_stored(code):
    source = straight((10, 11, 12), (0.9, 1.1, 3.3), (0.123, -4.567, 8.9))
    stored = reorient(np.zeros(source.shape), source, code)[1]
    one, other = lattice([source], (1.5, 1.5, 1.5)), lattice([stored], (1.5, 1.5, 1.5))
    assert one.shape == other.shape
    np.testing.assert_array_equal(one.affine, other.affine)


def test_a_field_of_view_beyond_any_body_is_refused():
    with pytest.raises(BadGrid, match="239002 x 239002 x 239002 mm.*millimetres"):
        lattice([straight((240, 240, 240), (1000, 1000, 1000))], (1.5, 1.5, 1.5))


def test_overlap_is_the_share_of_the_first():
    a, b = straight((10, 10, 10)), straight((10, 10, 20), origin=(5, 0, 0))
    assert overlap(a, b, 20) == pytest.approx(0.5)
    assert overlap(b, a, 20) == pytest.approx(0.25)
    assert overlap(a, straight((3, 3, 3), origin=(100, 0, 0))) == 0


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_occupied_box_holds_all_that_is_not_zero_and_no_more(order: str) -> None:
    labels = np.zeros((9, 7, 5), np.uint8, order=order)
    assert labels[bounding_box(labels)].size == 0
    labels[2, 6, 1], labels[7, 3, 1] = 3, 1
    assert bounding_box(labels) == (slice(2, 8), slice(3, 7), slice(1, 2))
    assert bounding_box(labels[::-1].transpose(2, 0, 1)) == (slice(1, 2), slice(1, 7), slice(3, 7))


def test_a_cropped_label_map_lies_where_its_labels_lay() -> None:
    grid, labels = turned((6, 7, 8), spacing=(1.0, 2.0, 3.0)), np.zeros((6, 7, 8), np.uint8, order="F")
    labels[2, 3:5, 6], labels[4, 4, 5] = 1, 2
    cut, there = cropped(labels, grid)
    assert cut.shape == there.shape == (3, 2, 2)
    np.testing.assert_allclose(there.to_world(np.zeros(3)), grid.to_world(np.array([2, 3, 5])))
    np.testing.assert_array_equal(resample(cut, there, grid, order=0), labels)
    empty, there = cropped(np.zeros_like(labels), grid)
    assert (empty.shape, int(empty[0, 0, 0])) == ((1, 1, 1), 0)
    np.testing.assert_allclose(there.affine, grid.affine)


@pytest.mark.parametrize("shear", [0.0, 0.02])
def test_distances_are_those_of_the_voxels_centres_on_turned_and_sheared_grids(shear: float) -> None:
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turn[:, 0] += shear * turn[:, 1]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn * [1.0, 1.5, 4.0], (3, -5, 8)
    grid, world = Grid((6, 5, 4), affine), np.array([1.0, 2.0, 3.0])
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    np.testing.assert_allclose(
        squared_distance(grid, world), ((grid.to_world(index) - world) ** 2).sum(axis=-1), rtol=1e-5
    )
