"""Which lines are closed, and what they enclose."""

import numpy as np
import pytest

from slem_app.prompts import read_strokes
from slem_app.prompts.closed import enclosed
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS

GRID = Grid((60, 60, 5), np.diag([1.0, 1.0, 3.0, 1.0]))
RADIUS, MIDDLE = 15.0, 30.0


def line(
    points: np.ndarray, plane: int = 2, axis: int = 2, shape: tuple[int, ...] = GRID.shape
) -> np.ndarray:
    """The voxels that a way through one slice goes through; points (n, 2), voxels."""
    steps = np.linspace(0, len(points) - 1, 4000)
    ways = [np.interp(steps, np.arange(len(points)), points[:, n]) for n in (0, 1)]
    painted = np.zeros(shape, dtype=bool)
    index = [np.round(way).astype(int) for way in ways]
    index.insert(axis, np.full(len(steps), plane))
    painted[tuple(index)] = True
    return painted


def arc(gap_mm: float, radius: float = RADIUS) -> np.ndarray:
    """Points of a circle that ends a gap before it began."""
    turn = np.linspace(0, 2 * np.pi - gap_mm / radius, 200)
    return MIDDLE + radius * np.stack([np.cos(turn), np.sin(turn)], axis=1)


@pytest.mark.parametrize("gap", [0.0, 2.0, 4.0])
def test_a_line_whose_ends_meet_encloses_its_area(gap: float) -> None:
    painted = line(arc(gap))
    inside = enclosed(painted, GRID)
    assert (inside >= painted).all()
    assert inside.sum() == pytest.approx(np.pi * RADIUS**2, rel=0.1)
    assert not inside[:, :, [0, 1, 3, 4]].any()
    assert inside[30, 30, 2]


@pytest.mark.parametrize(
    "points",
    [
        arc(8.0),
        arc(np.pi * RADIUS),
        np.array([[10.0, 10.0], [50.0, 12.0]]),
        np.array([[10.0, 10.0], [10.0, 10.0]]),
        np.array([[10.0, 10.0], [50.0, 12.0], [10.0, 14.0]]),  # there and back
        np.array([[10 + 30 * (n % 2), 10 + 3 * n] for n in range(12)], dtype=float),  # hatched
        np.concatenate([[[10 + 30 * (n % 2), 10 + 3 * n] for n in range(11)], [[10.0, 10.0]]]),  # and back
    ],
    ids=["a gap", "half", "a line", "a point", "there and back", "hatched", "hatched and back"],
)
def test_an_open_line_encloses_nothing(points: np.ndarray) -> None:
    assert enclosed(line(points), GRID) is None


def test_a_blob_with_a_hole_and_a_line_through_several_slices_are_what_they_are() -> None:
    blob = np.zeros(GRID.shape, dtype=bool)
    blob[20:40, 20:40, 2] = True
    blob[30, 30, 2] = False
    assert enclosed(blob, GRID) is None
    tube = line(arc(0.0)) | line(arc(0.0), plane=3)
    assert enclosed(tube, GRID) is None


def test_a_gap_is_measured_in_millimetres_along_any_plane() -> None:
    fine = Grid((5, 60, 60), np.diag([1.0, 0.5, 0.5, 1.0]))
    assert enclosed(line(arc(7.0), axis=0, shape=fine.shape), fine) is not None
    assert enclosed(line(arc(14.0), axis=0, shape=fine.shape), fine) is None
    assert (
        enclosed(line(arc(4.0), axis=0, shape=fine.shape), Grid(fine.shape, np.diag([1.0, 3, 3, 1]))) is None
    )


def stroke(painted: np.ndarray, **more: object) -> dict:
    return {"label": "edema", "runs": [[*voxel, 1] for voxel in np.argwhere(painted).tolist()], **more}


def test_a_closed_stroke_of_a_request_is_an_outline_unless_it_says_otherwise() -> None:
    ring = line(arc(2.0))
    (closed,) = read_strokes([stroke(ring)], BRAIN_LABELS, GRID)
    inside = enclosed(ring, GRID)
    (lasso,) = read_strokes([stroke(inside, outline=True)], BRAIN_LABELS, GRID)
    assert closed == lasso
    assert closed.beside(GRID).any()
    (kept,) = read_strokes([stroke(ring, outline=False)], BRAIN_LABELS, GRID)
    assert len(kept.voxels(GRID)) == ring.sum()
    assert not kept.beside(GRID).any()
    (open_,) = read_strokes([stroke(line(arc(8.0)))], BRAIN_LABELS, GRID)
    assert open_.within is None
