"""A bottle of water is no brain, however uneven the coil; every sequence of a phantom's brain is one."""

import numpy as np
import pytest

from slem_app.errors import BadVolume
from slem_app.phantom import make
from slem_app.volumes.tissue import LEAST_CONTRAST, check_tissue, contrast

SPACING = (2.0, 2.0, 2.0)


def bottle(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """80 mm wide, with a plug, brighter at one end."""
    x, y, z = np.indices((60, 60, 70), dtype=np.float32) * 2 - np.array([60, 60, 70]).reshape(3, 1, 1, 1)
    water = (np.hypot(x, y) < 50) & (np.abs(z) < 64)
    plug = (np.hypot(x, y) < 8) & (z > 40)
    image = np.where(water & ~plug, 800 * np.exp(0.004 * z), 0).astype(np.float32)
    grain = np.random.default_rng(0).normal(0, noise, image.shape)
    return np.abs(image + grain).astype(np.float32), water


@pytest.mark.parametrize("noise", [10.0, 80.0])
def test_a_bottle_of_water_is_refused(noise):
    assert contrast(*bottle(noise), SPACING) < LEAST_CONTRAST
    with pytest.raises(BadVolume, match="even substance in every sequence.*is it a phantom"):
        check_tissue([bottle(noise)] * 2, SPACING)


def test_one_sequence_that_shows_tissues_is_enough():
    case = make(1, (80, 96, 72), SPACING)
    for image in case.images.values():
        brain = image > 0
        assert contrast(image, brain, SPACING) > LEAST_CONTRAST
        check_tissue([bottle(10.0), (image, brain)], SPACING)


def test_what_is_too_small_to_tell_is_not_refused():
    check_tissue([(np.ones((9, 9, 9), np.float32), np.ones((9, 9, 9), bool))], SPACING)
