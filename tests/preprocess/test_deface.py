"""The face is what lies in front of and below the line along the brain's lower front."""

import numpy as np
import pytest

from slem_app.phantom.head import rotation
from slem_app.preprocess.deface import CLEARANCE, face
from slem_app.types import Grid


def brain_and_grid(turn: float) -> tuple[np.ndarray, Grid, np.ndarray]:
    """A brain as two ellipsoids, a cerebrum and a temporal lobe below it, nodded by some degrees."""
    affine = np.diag([-2.0, -2.0, 2.0, 1.0])  # LPS, as scanners have it
    affine[:3, 3] = [100, 130, -130]
    grid = Grid((100, 130, 130), affine)
    nod = rotation(np.array([turn, 0.0, 0.0]))
    points = grid.to_world(np.stack(np.indices(grid.shape), axis=-1)) @ nod
    cerebrum = (((points - [0, 0, 20]) / [68, 85, 55]) ** 2).sum(axis=-1) <= 1
    below = (((points - [0, 0, -20]) / [60, 45, 35]) ** 2).sum(axis=-1) <= 1
    return cerebrum | below, grid, nod


@pytest.mark.parametrize("turn", [-15.0, 0.0, 15.0])
def test_nose_and_mouth_go_and_the_brain_stays(turn):
    brain, grid, nod = brain_and_grid(turn)
    gone = face(brain, grid)

    def at(*place: float) -> bool:
        return bool(gone[tuple(np.rint(grid.to_index(nod @ np.array(place))).astype(int))])

    assert not (gone & brain).any()
    assert at(0, 100, -40), "nose"
    assert at(0, 85, -75), "mouth"
    assert not at(0, 0, 85), "vertex"
    assert not at(0, -100, 10), "back of the head"
    assert not at(75, -10, -20), "ear"


def test_nothing_close_to_the_brain_is_taken():
    brain, grid, _ = brain_and_grid(0.0)
    world = grid.to_world(np.argwhere(brain))
    taken = grid.to_world(np.argwhere(face(brain, grid)))
    nearest = min(float(np.linalg.norm(taken - point, axis=1).min()) for point in world[::4000])
    assert nearest >= CLEARANCE
