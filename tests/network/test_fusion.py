"""Fusion of sequences: any number, any missing, in any slots."""

import torch

from slem_app.network.fusion import SequenceFusion, SequenceStem


def test_the_stem_treats_every_sequence_alike():
    stem = SequenceStem(4, 2)
    x = torch.randn(1, 1, 8, 8, 8)
    torch.testing.assert_close(stem(torch.cat([x, x]))[1:], stem(x))
    assert stem(x).shape == (1, 4, 4, 4, 4)


def test_a_missing_sequence_adds_its_own_substitute_and_nothing_else():
    fusion = SequenceFusion(3, 4, 6)
    torch.nn.init.normal_(fusion.substitute)
    fusion.norm = torch.nn.Identity()
    features = torch.randn(1, 3, 4, 2, 2, 2)
    all_here = fusion(features, torch.tensor([[True, True, True]]))
    lacking = fusion(features, torch.tensor([[True, False, True]]))
    undo = lambda y: torch.where(y < 0, y / 0.01, y)  # noqa: E731, of the leaky ReLU
    own = torch.einsum("oc,cijk->oijk", fusion.project[1], features[0, 1])
    torch.testing.assert_close(undo(lacking)[0], undo(all_here)[0] - own + fusion.substitute[1][:, None, None, None], atol=1e-4, rtol=1e-4)


def test_the_missing_are_told_apart_within_a_batch():
    fusion = SequenceFusion(2, 4, 6)
    torch.nn.init.normal_(fusion.substitute)
    features = torch.randn(2, 2, 4, 3, 3, 3)
    present = torch.tensor([[True, False], [False, True]])
    both = fusion(features, present)
    for n in range(2):
        torch.testing.assert_close(both[n : n + 1], fusion(features[n : n + 1], present[n : n + 1]))
