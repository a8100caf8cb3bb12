"""What a coil does to the brightness of a brain is found and taken out; what is even stays so."""

import numpy as np
import pytest

from slem_app.phantom import make
from slem_app.types import Grid
from slem_app.volumes.brain import BrainMask
from slem_app.volumes.coarse import coarse
from slem_app.volumes.levels import Levels, Volume
from slem_app.volumes.receive_field import receive_field


@pytest.fixture(scope="module")
def case():
    return make(2, (70, 82, 60), (2.4, 2.4, 2.4))


def found(volume: Volume, brain: np.ndarray, place: Grid | None = None):
    seen = coarse(volume, Levels.of(volume.array, "t1c"), "t1c", head=False)
    return receive_field(seen, BrainMask(brain, place or volume.grid))


def test_a_brain_that_is_brighter_below_comes_out_even(case):
    clean = case.images["t1c"]
    brain = clean > 0
    slope = np.linspace(0.35, -0.35, clean.shape[2], dtype=np.float32)  # log of the brightness
    volume = Volume(clean * np.exp(slope), case.grid)
    field = found(volume, brain)
    assert field.spread > 1.3
    even = field.taken_from(volume)

    def tilt(image: np.ndarray) -> float:
        ratio = np.log(image[brain] / clean[brain])
        return float(np.polyfit(np.argwhere(brain)[:, 2] / clean.shape[2], ratio, 1)[0])

    assert abs(tilt(volume.array)) > 0.6
    assert abs(tilt(even.array)) < 0.25


def test_there_is_no_field_where_the_brain_is_outside_the_image(case):
    far = case.grid.affine.copy()
    far[:3, 3] += 900
    volume = Volume(case.images["t1c"], case.grid)
    assert found(volume, volume.array > 0, Grid(case.grid.shape, far)) is None
