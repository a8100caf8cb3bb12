"""What is drawn in a slice, as voxels of the image."""

import numpy as np
import pytest
from SLeMLabelLib import strokes

TURN = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]])
SHAPE = (30, 40, 20)


@pytest.fixture(params=["straight", "oblique"])
def matrix(request: pytest.FixtureRequest) -> np.ndarray:
    """Voxels of 1 x 1.5 x 4 mm, flipped along I as most images are."""
    found = np.eye(4)
    turn = TURN if request.param == "oblique" else np.eye(3)
    found[:3, :3] = turn * np.array([-1.0, 1.5, 4.0])
    found[:3, 3] = (12.0, -30.0, 7.0)
    return found


def world(matrix: np.ndarray, *voxels: tuple[float, float, float]) -> np.ndarray:
    return np.array(voxels) @ matrix[:3, :3].T + matrix[:3, 3]


def test_a_point_lies_in_the_nearest_voxel_or_outside(matrix: np.ndarray) -> None:
    assert strokes.voxel(world(matrix, (3.4, 4.4, 5.4)), matrix, SHAPE) == (3, 4, 5)
    assert strokes.voxel(world(matrix, (-0.6, 4, 5)), matrix, SHAPE) is None
    assert strokes.voxel(world(matrix, (3, 4, 19.6)), matrix, SHAPE) is None


def test_a_scribble_goes_through_every_voxel_on_its_way(matrix: np.ndarray) -> None:
    found = strokes.line(world(matrix, (5, 5, 7), (20, 5, 7), (20, 15, 7)), 0.1, matrix, SHAPE)
    expected = {(i, 5, 7) for i in range(5, 21)} | {(20, j, 7) for j in range(5, 16)}
    assert {tuple(voxel) for voxel in found.tolist()} == expected


def test_a_scribble_is_as_wide_as_its_brush_in_mm(matrix: np.ndarray) -> None:
    found = strokes.line(world(matrix, (10, 20, 7)), 6.2, matrix, SHAPE)
    away = np.linalg.norm((found - (10, 20, 7)) * (1.0, 1.5, 4.0), axis=1)
    assert away.max() <= 3.1
    assert (7, 20, 7) in set(map(tuple, found.tolist()))
    assert {voxel[2] for voxel in found.tolist()} == {7}


def test_what_is_outside_the_image_is_left_out(matrix: np.ndarray) -> None:
    found = strokes.line(world(matrix, (-5, 5, 7), (3, 5, 7)), 0.1, matrix, SHAPE)
    assert {tuple(voxel) for voxel in found.tolist()} == {(i, 5, 7) for i in range(4)}
    assert not len(strokes.line(world(matrix, (-9, 5, 7), (-5, 5, 7)), 0.1, matrix, SHAPE))


def test_a_lasso_holds_the_voxels_of_its_slice_inside_it(matrix: np.ndarray) -> None:
    square = world(matrix, (4.5, 9.5, 7.2), (10.5, 9.5, 7.2), (10.5, 15.5, 7.2), (4.5, 15.5, 7.2))
    found = {tuple(voxel) for voxel in strokes.inside(square, matrix, SHAPE).tolist()}
    assert found == {(i, j, 7) for i in range(5, 11) for j in range(10, 16)}


def test_a_lasso_in_another_plane_than_the_slices(matrix: np.ndarray) -> None:
    square = world(matrix, (10, 9.5, 4.5), (10, 15.5, 4.5), (10, 15.5, 9.5), (10, 9.5, 9.5))
    found = {tuple(voxel) for voxel in strokes.inside(square, matrix, SHAPE).tolist()}
    assert found == {(10, j, k) for j in range(10, 16) for k in range(5, 10)}


def test_a_lasso_that_crosses_itself_and_one_of_two_points(matrix: np.ndarray) -> None:
    hourglass = world(matrix, (4.5, 9.5, 7), (14.5, 19.5, 7), (14.5, 9.5, 7), (4.5, 19.5, 7))
    found = {tuple(voxel) for voxel in strokes.inside(hourglass, matrix, SHAPE).tolist()}
    assert (5, 14, 7) in found
    assert (9, 10, 7) not in found
    assert not len(strokes.inside(world(matrix, (4, 9, 7), (14, 9, 7)), matrix, SHAPE))


def test_runs_hold_every_voxel_once() -> None:
    mask = np.random.default_rng(1).random(SHAPE) < 0.4
    told = np.zeros(SHAPE, int)
    for i, j, k, count in strokes.runs(np.argwhere(mask)):
        told[i : i + count, j, k] += 1
    np.testing.assert_array_equal(told, mask)
    assert strokes.runs(np.zeros((0, 3), int)) == []


def arc(gap_mm: float, radius: float = 12.0) -> np.ndarray:
    """A circle, mm, that ends a gap before it began."""
    turn = np.linspace(0, 2 * np.pi - gap_mm / radius, 60)
    return np.stack([radius * np.cos(turn), np.full(60, 3.0), radius * np.sin(turn)], axis=1)


def test_a_scribble_is_closed_where_its_ends_meet_around_something() -> None:
    for points in (arc(0.0), arc(3.9), arc(2.0, radius=3.0), arc(1.0) * (1, 1, 0.25)):
        assert strokes.closed(points)
    there_and_back = np.array([[0.0, 0, 0], [30, 1, 0], [0, 2, 0]])
    hatched = np.array([[20.0 * (n % 2), 2.0 * n, 0] for n in range(9)] + [[0.0, 0, 0]])
    for points in (arc(4.5), arc(3.0, radius=1.0), there_and_back, hatched, arc(0.0)[:2]):
        assert not strokes.closed(points)
