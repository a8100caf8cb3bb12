"""Losses against numbers worked out by hand."""

import math

import pytest
import torch

from slem_app.finetune.losses import deep_loss, region_loss


def logits(*probabilities: float) -> torch.Tensor:
    """(1, 1, n, 1, 1)."""
    return torch.logit(torch.tensor(probabilities)).reshape(1, 1, -1, 1, 1)


def target(*values: float) -> torch.Tensor:
    return torch.tensor(values).reshape(1, 1, -1, 1, 1)


def test_two_voxels_by_hand():
    # Dice (2 * 0.8 + 1) / (0.8 + 0.4 + 1 + 1) = 2.6 / 3.2; BCE (-ln 0.8 - ln 0.6) / 2
    expected = (1 - 2.6 / 3.2) + (-math.log(0.8) - math.log(0.6)) / 2
    assert region_loss(logits(0.8, 0.4), target(1.0, 0.0)).item() == pytest.approx(expected, abs=1e-6)


def test_soft_targets_by_hand():
    expected = (1 - (2 * 0.25 + 1) / (0.5 + 0.5 + 1)) + math.log(2)
    assert region_loss(logits(0.5), target(0.5)).item() == pytest.approx(expected, abs=1e-6)


def test_perfect_is_zero_and_an_empty_region_is_no_division_by_zero():
    sure = torch.tensor([30.0, -30.0]).reshape(1, 1, 2, 1, 1)
    assert region_loss(sure, target(1.0, 0.0)).item() == pytest.approx(0, abs=1e-6)
    assert region_loss(-sure.abs(), target(0.0, 0.0)).item() == pytest.approx(0, abs=1e-6)


def test_dice_is_taken_over_the_batch():
    """A sample without the region does not count as a whole Dice of its own."""
    both = torch.cat([logits(0.9, 0.9), logits(0.1, 0.1)])
    truth = torch.cat([target(1.0, 1.0), target(0.0, 0.0)])
    expected = (1 - (2 * 1.8 + 1) / (2.0 + 2.0 + 1)) - math.log(0.9)
    assert region_loss(both, truth).item() == pytest.approx(expected, abs=1e-6)


def test_regions_are_averaged():
    x = torch.cat([logits(0.8), logits(0.3)], dim=1)
    y = torch.cat([target(1.0), target(0.0)], dim=1)
    each = [region_loss(logits(0.8), target(1.0)), region_loss(logits(0.3), target(0.0))]
    assert region_loss(x, y).item() == pytest.approx(sum(e.item() for e in each) / 2, abs=1e-6)


def test_coarser_heads_see_the_mean_of_their_voxels():
    full, coarse = torch.randn(2, 3, 8, 8, 8), torch.randn(2, 3, 2, 2, 2)
    truth = (torch.rand(2, 3, 8, 8, 8) > 0.7).float()
    pooled = truth.reshape(2, 3, 2, 4, 2, 4, 2, 4).mean(dim=(3, 5, 7))
    expected = (region_loss(full, truth) + 0.5 * region_loss(coarse, pooled)) / 1.5
    torch.testing.assert_close(deep_loss([full, coarse], truth, (1.0, 0.5, 0.25)), expected)


def test_half_precision_is_summed_in_single():
    x = torch.zeros(1, 1, 64, 64, 64, dtype=torch.bfloat16)
    assert region_loss(x, torch.zeros(1, 1, 64, 64, 64)).item() == pytest.approx(1 + math.log(2), abs=1e-4)
