"""Variation of patches: drawn apart from being applied, repeatable, the air stays air, at least one sequence
stays.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from slem_app.finetune.augment import Variation, apply, draw
from slem_app.finetune.settings import AugmentSettings
from tests.finetune.conftest import PLAIN

ALWAYS = AugmentSettings(flip=1, spatial=1, gamma=1, noise=1, blur=1, keep_sequence=0.75)
STILL = replace(ALWAYS, flip=0, spatial=0)


def patch(sequences: int = 4, size: tuple[int, int, int] = (16, 16, 16)) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.standard_normal((sequences, *size)).astype(np.float32))
    images[:, :5] = 0  # air
    regions = torch.zeros(3, *size)
    regions[:, 8:12, 6:10, 6:10] = 1
    return images, regions


def nothing(sequences: int = 4) -> Variation:
    return draw(np.random.default_rng(0), sequences, PLAIN)


def test_no_variation_changes_nothing():
    images, regions = patch()
    new_images, new_regions = apply(images, regions, nothing())
    torch.testing.assert_close(new_images, images, rtol=0, atol=0)
    torch.testing.assert_close(new_regions, regions, rtol=0, atol=0)


def test_the_same_seed_gives_the_same_result_and_the_input_is_left_alone():
    images, regions = patch()
    kept = images.clone()
    one, other, third = (
        apply(images, regions, draw(np.random.default_rng(seed), 4, ALWAYS)) for seed in (5, 5, 6)
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not torch.equal(one[0], third[0])
    torch.testing.assert_close(images, kept, rtol=0, atol=0)


def test_applying_draws_nothing():
    images, regions = patch()
    variation = draw(np.random.default_rng(5), 4, ALWAYS)
    one = apply(images, regions, variation)
    np.random.seed(1)
    torch.manual_seed(1)
    torch.testing.assert_close(apply(images, regions, variation), one, rtol=0, atol=0)


def test_the_air_stays_zero():
    images, regions = patch()
    for seed in range(20):
        result = apply(images, regions, draw(np.random.default_rng(seed), 4, STILL))[0]
        assert not result[:, :5].any()
        assert torch.isfinite(result).all()
        assert (result[:, 5:] != 0).float().mean() > 0.99


def test_all_air_stays_all_air():
    result, _ = apply(
        torch.zeros(4, 16, 16, 16), torch.zeros(3, 16, 16, 16), draw(np.random.default_rng(0), 4, ALWAYS)
    )
    assert not result.any()


@pytest.mark.parametrize("sequences", [1, 2, 4])
def test_at_least_one_sequence_is_kept_and_others_do_go(sequences):
    kept = np.array([draw(np.random.default_rng(seed), sequences, ALWAYS).keep for seed in range(300)])
    assert kept.any(axis=1).all()
    if sequences > 1:
        assert 0.6 < kept.mean() < 0.9
        assert (~kept).any(axis=0).all()


def test_no_sequence_is_dropped_without_being_asked():
    assert all(draw(np.random.default_rng(seed), 4, PLAIN).keep.all() for seed in range(50))


def test_flips_move_images_and_regions_together():
    images, regions = patch()
    new_images, new_regions = apply(images, regions, replace(nothing(), flips=(1, 3)))
    torch.testing.assert_close(new_images, images.flip(1, 3), rtol=0, atol=0)
    torch.testing.assert_close(new_regions, regions.flip(1, 3), rtol=0, atol=0)


def test_a_quarter_turn_turns_voxels_of_any_patch():
    """Also of one with unlike sides: angles are in voxels, not in shares of the sides."""
    images, regions = torch.zeros(1, 16, 16, 8), torch.zeros(3, 16, 16, 8)
    images[0, 9, 12, 2] = 5
    turn = np.array([[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 0]], dtype=float)  # rows and columns: K, J, I
    result = apply(images, regions, replace(nothing(1), affine=turn))[0]
    assert torch.nonzero(result[0] > 4).tolist() in ([[3, 9, 2]], [[12, 6, 2]])
    images = torch.zeros(1, 16, 8, 8)
    images[0, 9, 5, 2] = 5  # 1.5 voxels from the middle along I and J
    result = apply(images, torch.zeros(3, 16, 8, 8), replace(nothing(1), affine=turn))[0]
    assert torch.nonzero(result[0] > 4).tolist() in ([[6, 5, 2]], [[9, 2, 2]])


def test_scaling_changes_volumes_as_drawn():
    settings = replace(PLAIN, spatial=1, rotation=0, scale=(1.25, 1.25))
    images, regions = patch()
    grown = apply(images, regions, draw(np.random.default_rng(0), 4, settings))[1]
    assert grown[0].sum() / regions[0].sum() == pytest.approx(1.25**3, rel=0.05)
    assert 0 <= grown.min() <= grown.max() <= 1 + 1e-6


def test_intensities_are_changed_one_sequence_at_a_time():
    images, regions = patch()
    gain = np.array([1.0, 2.0, 1.0, 1.0])
    shift = np.array([0.0, 0.5, 0.0, 0.0])
    result = apply(images, regions, replace(nothing(), gain=gain, shift=shift))[0]
    torch.testing.assert_close(result[[0, 2, 3]], images[[0, 2, 3]])
    torch.testing.assert_close(result[1, 5:], 2 * images[1, 5:] + 0.5)


def test_gamma_keeps_range_and_order():
    images, regions = patch()
    result = apply(images, regions, replace(nothing(), gamma=np.array([1.5, 1, 1, 1])))[0]
    before, after = images[0, 5:].flatten(), result[0, 5:].flatten()
    assert (after[before.argsort()].diff() >= -1e-4).all()
    assert after.min() == pytest.approx(before.min().item(), abs=1e-3)
    assert after.max() == pytest.approx(before.max().item(), abs=1e-3)
    torch.testing.assert_close(result[1:], images[1:])


def test_blur_takes_detail_away():
    images, regions = patch()
    result = apply(images, regions, replace(nothing(), blur=np.array([2.0, 1, 1, 1])))[0]
    assert result[0, 5:].std() < 0.7 * images[0, 5:].std()
    torch.testing.assert_close(result[1:], images[1:])


def test_nothing_is_mirrored_along_an_axis_that_must_not_be():
    settings = AugmentSettings(flip=1.0)
    assert draw(np.random.default_rng(0), 3, settings).flips == (1, 2, 3)
    assert draw(np.random.default_rng(0), 3, settings, mirrors=(1, 2)).flips == (2, 3)
    assert draw(np.random.default_rng(0), 3, settings, mirrors=()).flips == ()
