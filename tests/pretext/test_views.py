"""Views: the whole head at a fixed size."""

import numpy as np
import pytest

from slem_app.errors import BadSetting
from slem_app.pretext.views import HeadViewSettings, make_view
from slem_app.types import Grid
from slem_app.volumes.cache import CachedCase

AS_IT_IS = HeadViewSettings(shape=(16, 16, 16), flip=0.0, spatial=0.0)


def case(shape: tuple[int, int, int] = (10, 24, 16)) -> CachedCase:
    images = np.zeros((2, *shape), np.float16)
    images[0, 1:9, 2:22, 4:12] = 1
    images[0, 1, 2, 4] = 5
    return CachedCase("one", images, np.array([True, False]), None, Grid(shape, np.eye(4)), ())


def test_the_head_is_in_the_middle_and_what_does_not_fit_is_cut(rng: np.random.Generator) -> None:
    seen = make_view(case(), None, rng, AS_IT_IS)
    assert seen.images.shape == (2, 16, 16, 16)
    assert seen.images.dtype == np.float32
    there = np.argwhere(seen.images[0])
    assert there.min(axis=0).tolist() == [4, 0, 4]
    assert there.max(axis=0).tolist() == [11, 15, 11]
    assert seen.present.tolist() == [True, False]


def test_notes_are_cut_mirrored_and_turned_with_the_images(rng: np.random.Generator) -> None:
    one = case()
    notes = (one.images[0] > 0).astype(np.int32) * 7
    turning = HeadViewSettings(shape=(24, 24, 24), flip=0.5, spatial=1.0, rotation=30.0)
    for _ in range(5):
        seen = make_view(one, notes, rng, turning)
        assert set(np.unique(seen.notes)) == {0, 7}
        assert ((seen.notes > 0) != seen.tissue[0]).mean() < 0.02


def test_measuring_looks_at_cases_as_they_are() -> None:
    turning = HeadViewSettings(shape=(16, 16, 16), flip=1.0, spatial=1.0)
    plain = [
        make_view(case(), None, np.random.default_rng(seed), turning, plain=True).images for seed in (0, 1)
    ]
    np.testing.assert_array_equal(plain[0], plain[1])
    np.testing.assert_array_equal(
        plain[0], make_view(case(), None, np.random.default_rng(2), AS_IT_IS).images
    )


def test_refuses_impossible_settings() -> None:
    with pytest.raises(BadSetting, match="three sizes of at least 8 voxels"):
        HeadViewSettings(shape=(4, 16, 16))
