"""Blocks as other scanners show them: amounts are millimetres, not voxels."""

import numpy as np
import pytest

from slem_app.errors import BadSetting
from slem_app.pretext.appearance import VariationSettings, vary

SHARP = {"intensity": "none", "noise": 0.0, "bias": 0.0}


def steps(image: np.ndarray) -> float:
    """Mean absolute difference of neighbouring voxels: how sharp an image of sd 1 is."""
    return float(np.mean([np.abs(np.diff(image, axis=axis)).mean() for axis in range(3)]))


@pytest.mark.parametrize("effect", [{"blur": 1.0, "coarse": 0.0}, {"blur": 0.0, "coarse": 1.0}])
def test_the_same_blur_and_thickness_leave_coarse_voxels_sharper(
    effect: dict[str, float], rng: np.random.Generator
) -> None:
    image = rng.normal(size=(24, 24, 24)).astype(np.float32)
    settings = VariationSettings(**SHARP, **effect)
    fine, coarse = (
        np.mean(
            [
                steps(vary(image, np.ones_like(image, bool), (mm,) * 3, np.random.default_rng(n), settings))
                for n in range(8)
            ]
        )
        for mm in (1.0, 4.0)
    )
    assert fine < 0.9 * coarse
    assert coarse > 0.9 * steps(image)


def test_refuses_a_range_that_falls() -> None:
    with pytest.raises(BadSetting, match="thickness is a range in mm, lowest first"):
        VariationSettings(thickness=(4.0, 2.0))
