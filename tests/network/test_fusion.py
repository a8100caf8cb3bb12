"""Fusion of sequences: any number, any missing, in any slots."""

from itertools import product

import pytest
import torch

from slem_app.network.fusion import SequenceFusion, SequenceStem, with_differences, with_presence


def test_the_stem_treats_every_sequence_alike():
    stem = SequenceStem(4, 2)
    x = torch.randn(1, 1, 8, 8, 8)
    torch.testing.assert_close(stem(torch.cat([x, x]))[1:], stem(x))
    assert stem(x).shape == (1, 4, 4, 4, 4)


def undo(y: torch.Tensor) -> torch.Tensor:
    """Before the leaky ReLU."""
    return torch.where(y < 0, y / 0.01, y)


@pytest.mark.parametrize("present", [flags for flags in product((True, False), repeat=4) if any(flags)])
def test_the_scale_of_the_fused_map_does_not_depend_on_how_many_sequences_there_are(present):
    fused = undo(SequenceFusion(4, 4, 6)(torch.randn(1, 4, 4, 8, 8, 8), torch.tensor([present])))
    torch.testing.assert_close(fused.mean(dim=(2, 3, 4)), torch.zeros(1, 6), atol=1e-3, rtol=0)
    torch.testing.assert_close(fused.std(dim=(2, 3, 4)), torch.ones(1, 6), atol=2e-2, rtol=0)


def test_a_missing_sequence_is_left_out():
    fusion, fewer = SequenceFusion(3, 4, 6), SequenceFusion(2, 4, 6)
    features = torch.randn(1, 3, 4, 2, 2, 2)
    with torch.no_grad():
        fewer.project.copy_(fusion.project[[0, 2]])
    torch.testing.assert_close(
        fusion(features, torch.tensor([[True, False, True]])),
        fewer(features[:, [0, 2]], torch.tensor([[True, True]])),
    )


def test_what_is_missing_changes_gain_and_shift_behind_the_norm():
    fusion = SequenceFusion(3, 4, 6)
    features, here, lacking = (
        torch.randn(1, 3, 4, 2, 2, 2),
        torch.tensor([[True, True, True]]),
        torch.tensor([[False, True, False]]),
    )
    complete, before = fusion(features, here), undo(fusion(features, lacking))
    torch.nn.init.normal_(fusion.gain)
    torch.nn.init.normal_(fusion.shift)
    torch.testing.assert_close(fusion(features, here), complete, rtol=0, atol=0)
    gain, shift = ((table[0] + table[2])[:, None, None, None] for table in (fusion.gain, fusion.shift))
    torch.testing.assert_close(
        undo(fusion(features, lacking)), before * (1 + gain) + shift, atol=1e-4, rtol=1e-4
    )


def test_what_is_missing_is_learned_from_the_start():
    fusion = SequenceFusion(2, 4, 6)
    fusion(torch.randn(1, 2, 4, 3, 3, 3), torch.tensor([[True, False]])).square().mean().backward()
    for table in (fusion.gain, fusion.shift):
        assert (table.grad[1].abs() > 1e-4).all()
        assert not table.grad[0].any()


def test_the_missing_are_told_apart_within_a_batch():
    fusion = SequenceFusion(2, 4, 6)
    torch.nn.init.normal_(fusion.gain)
    torch.nn.init.normal_(fusion.shift)
    features = torch.randn(2, 2, 4, 3, 3, 3)
    present = torch.tensor([[True, False], [False, True]])
    both = fusion(features, present)
    for n in range(2):
        torch.testing.assert_close(both[n : n + 1], fusion(features[n : n + 1], present[n : n + 1]))


def test_a_difference_is_there_where_both_are_and_zero_where_one_has_no_signal():
    images = torch.randn(2, 3, 4, 4, 4)
    images[:, 0, 0] = 0
    both = with_differences(images, ((1, 0), (2, 1)))
    assert both.shape == (2, 5, 4, 4, 4)
    torch.testing.assert_close(both[:, :3], images)
    torch.testing.assert_close(both[:, 3, 1:], images[:, 1, 1:] - images[:, 0, 1:])
    assert not both[:, 3, 0].any()
    flags = torch.tensor([[True, True, False], [False, True, True]])
    assert with_presence(flags, ((1, 0), (2, 1)))[:, 3:].tolist() == [[True, False], [False, True]]
