"""The tumour of one training case in another: labels and intensities come together, only from training
cases, and only into the head.
"""

import numpy as np
import torch

from slem_app.finetune.paste import paste_tumour
from slem_app.finetune.patches import Patches
from slem_app.volumes.cache import CaseCache
from tests.finetune.conftest import PLAIN


def case(value: float, tumour: tuple[slice, slice, slice] | None = None) -> tuple[np.ndarray, np.ndarray]:
    images = np.zeros((2, 24, 24, 24), dtype=np.float16)
    images[:, 2:22, 2:22, 2:22] = value
    regions = np.zeros((3, 24, 24, 24), dtype=np.uint8)
    if tumour:
        regions[(slice(None), *tumour)] = 255
        images[(slice(None), *tumour)] = 5
    return images, regions


MIDDLE = (slice(8, 14),) * 3


def test_a_tumour_comes_with_its_labels_and_its_intensities():
    images, regions = case(1.0)
    donor = case(2.0, MIDDLE)
    new_images, new_regions = paste_tumour(images, regions, *donor)
    assert (new_regions[(slice(None), *MIDDLE)] == 255).all()
    assert new_images[0, 11, 11, 11] > 4
    assert new_images[0, 3, 3, 3] == 1  # far away nothing changes
    assert new_images.dtype == images.dtype
    assert not new_images[:, 0].any()
    assert not regions.any()
    assert (images[0, 11, 11, 11]) == 1  # the inputs stay


def test_its_border_is_blended():
    new, _ = paste_tumour(*case(1.0), *case(1.0, MIDDLE))
    along = new[0, 11, 11, 2:12].astype(float)
    assert (np.diff(along) >= -1e-3).all()
    assert np.diff(along).max() < 4


def test_nothing_is_pasted_without_a_tumour_or_outside_the_head():
    assert paste_tumour(*case(1.0), *case(1.0)) is None
    empty = (np.zeros((2, 24, 24, 24), np.float16), np.zeros((3, 24, 24, 24), np.uint8))
    assert paste_tumour(*empty, *case(1.0, MIDDLE)) is None


def test_patches_take_tumours_from_training_cases_alone(cache, settings, monkeypatch):
    seen = []
    load = CaseCache.load
    monkeypatch.setattr(CaseCache, "load", lambda self, name: seen.append(name) or load(self, name))
    quick = settings(steps=10, augment=PLAIN.__class__(**{**vars(PLAIN), "paste": 1.0}))
    patches = Patches(cache, ["case0"], quick)
    for number in range(20):
        patches[number]
    assert set(seen) == {"case0"}


def test_a_pasted_patch_is_known_by_its_number_and_others_stay_what_they_were(cache, settings):
    plain = Patches(cache, cache.ids(), settings(steps=20, augment=PLAIN))
    half = Patches(
        cache, cache.ids(), settings(steps=20, augment=PLAIN.__class__(**{**vars(PLAIN), "paste": 0.5}))
    )
    same = [torch.equal(plain[n][0], half[n][0]) for n in range(40)]
    assert 5 < sum(same) < 35
    changed = same.index(False)
    assert torch.equal(half[changed][0], half[changed][0])
