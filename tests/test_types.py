"""Grids: what their affine says, and what they refuse."""

import numpy as np
import pytest

from slem_app.types import Grid


def grid(shape=(4, 5, 6), axes=(2.0, 3.0, 4.0), origin=(10.0, -20.0, 30.0)) -> Grid:
    affine = np.diag([*axes, 1.0])
    affine[:3, 3] = origin
    return Grid(shape, affine)


def test_index_and_world_are_inverse_on_an_oblique_grid():
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.0, 2.0, 5.0]
    affine[:3, 3] = [7, -8, 9]
    oblique = Grid((9, 8, 7), affine)
    index = np.random.default_rng(1).uniform(-5, 20, (4, 3, 3))
    np.testing.assert_allclose(oblique.to_index(oblique.to_world(index)), index, atol=1e-9)
    np.testing.assert_allclose(oblique.spacing, [1, 2, 5])
    assert oblique.voxel_volume == pytest.approx(10)


def test_corners_are_the_outermost_voxel_centres():
    corners = grid().corners()
    np.testing.assert_array_equal(corners.min(axis=0), [10, -20, 30])
    np.testing.assert_array_equal(corners.max(axis=0), [16, -8, 50])


@pytest.mark.parametrize(
    ("axes", "letters"),
    [((1, 1, 1), "RAS"), ((-1, -1, 1), "LPS"), ((-1, 1, 1), "LAS"), ((1, 1, -1), "RAI")],
)
def test_orientation_of_straight_axes(axes, letters):
    assert grid(axes=axes).orientation == letters


def test_orientation_of_a_sagittal_stack():
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, -1], [-1, 0, 0], [0, -1, 0]]  # I runs to P, J to I, K to L
    assert Grid((3, 3, 3), affine).orientation == "PIL"


def test_orientation_at_45_degrees_uses_each_world_axis_once():
    s = np.sqrt(0.5)
    affine = np.eye(4)
    affine[:2, :2] = [[s, -s], [s, s]]
    assert sorted(Grid((3, 3, 3), affine).orientation.replace("L", "R").replace("P", "A")) == ["A", "R", "S"]


def test_crop_keeps_world_positions_also_outside():
    part = grid().crop((-1, 2, 3), (2, 2, 9))
    np.testing.assert_array_equal(part.to_world(np.array([1, 0, 0])), grid().to_world(np.array([0, 2, 3])))
    assert part.shape == (2, 2, 9)


def test_same_as_looks_at_positions_and_shape():
    assert grid().same_as(grid(origin=(10.005, -20.0, 30.0)))
    assert not grid().same_as(grid(origin=(10.1, -20.0, 30.0)))
    assert not grid().same_as(grid(shape=(4, 5, 7)))


def test_a_turn_that_moves_only_far_corners_is_not_the_same_grid():
    far = grid(shape=(300, 300, 300))
    affine = far.affine.copy()
    affine[0, 1] += 1e-3  # 0.3 mm at the far end
    assert not far.same_as(Grid(far.shape, affine))


def test_the_affine_is_copied_and_cannot_be_changed():
    affine = np.eye(4)
    made = Grid((2, 2, 2), affine)
    affine[0, 0] = 9
    assert made.affine[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        made.affine[0, 0] = 5


@pytest.mark.parametrize(
    ("shape", "affine"), [((2, 2), np.eye(4)), ((2, 2, 0), np.eye(4)), ((2, 2, 2), np.eye(3))]
)
def test_impossible_grids_are_refused(shape, affine):
    with pytest.raises(ValueError, match="three axes and a 4x4 affine"):
        Grid(shape, affine)


def test_text_tells_size_spacing_orientation():
    assert str(grid()) == "4x5x6 @ 2.00x3.00x4.00 mm RAS"
