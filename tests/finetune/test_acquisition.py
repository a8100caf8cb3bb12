"""Thick slices, displaced sequences, bias, contrast and brain masks: what each changes and leaves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.finetune.acquisition import acquire, draw_acquisition, thick_slices
from slem_app.finetune.augment import apply, draw
from slem_app.finetune.settings import AugmentSettings
from tests.finetune.conftest import PLAIN

SPACING = (1.5, 1.5, 1.5)
KINDS = ("thick", "displaced", "bias", "contrast", "inverted")


def ball(size: int = 32, radius: int = 12) -> torch.Tensor:
    """(2, n, n, n) two sequences of a textured ball in air."""
    at = np.stack(np.meshgrid(*[np.arange(size)] * 3, indexing="ij")) - size / 2 + 0.5
    noise = np.random.default_rng(0).standard_normal((2, size, size, size))
    return torch.from_numpy(((np.linalg.norm(at, axis=0) < radius) * (1 + 0.2 * noise)).astype(np.float32))


def acquired(seed: int = 0, **kinds: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    images, regions = ball(), (ball()[:1] != 0).float()
    drawn = draw_acquisition(np.random.default_rng(seed), 2, replace(PLAIN, **kinds), SPACING)
    return ball(), *acquire(images, regions, drawn)


@pytest.mark.parametrize("kind", KINDS)
def test_each_changes_the_images_alone_and_nothing_outside_the_head(kind):
    before, images, regions = acquired(**{kind: 1.0})
    assert not torch.equal(images, before)
    torch.testing.assert_close(regions, (before[:1] != 0).float(), rtol=0, atol=0)
    assert torch.isfinite(images).all()
    if kind != "displaced":
        assert not images[before == 0].any()


def test_off_by_default():
    settings = AugmentSettings()
    assert not settings.acquires
    assert draw(np.random.default_rng(0), 4, settings).acquisition is None


def test_the_other_random_numbers_stay_what_they_were():
    old, new = (
        draw(np.random.default_rng(3), 4, settings)
        for settings in (AugmentSettings(), AugmentSettings(thick=1.0))
    )
    assert old.seed == new.seed
    np.testing.assert_array_equal(old.gain, new.gain)


def test_a_thick_slice_is_the_mean_of_what_it_covers():
    image = torch.arange(8.0)[None, None].expand(4, 4, 8).contiguous()
    seen = thick_slices(image, 4.0, 2)
    assert seen[0, 0, 0].item() == pytest.approx(1.5)
    assert seen[0, 0, -1].item() == pytest.approx(5.5)
    torch.testing.assert_close(thick_slices(image, 4.0, 0), image)  # nothing varies across that axis


def test_a_displaced_sequence_lies_as_far_away_as_was_drawn():
    settings = replace(PLAIN, displaced=1.0)
    drawn = draw_acquisition(np.random.default_rng(1), 2, settings, SPACING)
    assert (np.abs(drawn.displaced) * 1.5 <= 3.0).all()
    before, after = ball(), acquire(ball(), torch.zeros(1, 32, 32, 32), drawn)[0]
    for s in range(2):
        moved = centre(after[s]) - centre(before[s])
        np.testing.assert_allclose(moved, drawn.displaced[s], atol=0.05)


def centre(image: torch.Tensor) -> np.ndarray:
    weight = image.double().numpy()
    return np.array([(weight.sum(axis=tuple({0, 1, 2} - {a})) * np.arange(32)).sum() for a in range(3)]) / (
        weight.sum()
    )


@pytest.mark.parametrize(("millimetres", "radius"), [(6.0, 8), (-6.0, 16), (3.0, 10)])
def test_the_border_of_the_brain_mask_moves_by_as_much_as_was_drawn(millimetres, radius):
    drawn = draw_acquisition(np.random.default_rng(0), 2, replace(PLAIN, border=1.0), SPACING)
    drawn = replace(drawn, border=np.full((4, 4, 4), millimetres / 13.5))
    images, regions = acquire(ball(), (ball()[:1] != 0).float(), drawn)
    found = (3 * (images != 0).any(dim=0).sum() / (4 * np.pi)) ** (1 / 3)
    assert found.item() == pytest.approx(radius, abs=1.3)
    if millimetres > 0:
        torch.testing.assert_close(regions[0], (images != 0).any(dim=0).float())
    else:
        assert regions.sum() == (ball()[0] != 0).sum()


def test_thick_voxels_let_the_border_reach_as_many_millimetres_along_every_axis():
    settings = replace(PLAIN, border=1.0)
    drawn = draw_acquisition(np.random.default_rng(0), 2, settings, (1.5, 1.5, 6.0))
    assert drawn.reach == (4, 4, 1)


def test_an_empty_patch_stays_empty():
    settings = replace(PLAIN, border=1.0, **dict.fromkeys(KINDS, 1.0))
    for seed in range(5):
        drawn = draw_acquisition(np.random.default_rng(seed), 2, settings, SPACING)
        images, regions = acquire(torch.zeros(2, 16, 16, 16), torch.zeros(1, 16, 16, 16), drawn)
        assert not images.any()
        assert not regions.any()


def test_the_same_numbers_give_the_same_patch():
    settings = replace(AugmentSettings(), border=0.5, **dict.fromkeys(KINDS, 0.5))
    one, other = (
        apply(ball(), (ball()[:1] != 0).float(), draw(np.random.default_rng(4), 2, settings))
        for _ in range(2)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("changes", [{"thick": 1.5}, {"paste": -0.1}, {"thickness": (0.0, 3.0)}])
def test_impossible_settings_are_refused(changes):
    with pytest.raises(BadSetting, match=r"augment"):
        AugmentSettings(**changes)
