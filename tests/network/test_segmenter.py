"""The whole network: what goes in, what comes out, and what must not matter."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from slem_app.network import build, flops, parameters


def every(n: int, m: int) -> torch.Tensor:
    return torch.ones(n, m, dtype=torch.bool)


def shaken(config) -> nn.Module:
    """Fresh weights with nothing left at zero, as after some training."""
    network = build(config).eval()
    with torch.no_grad():
        for weight in network.parameters():
            weight += 0.1 * torch.randn_like(weight)
    return network


@pytest.mark.parametrize("sequences", range(1, 9))
def test_any_number_of_sequences(small, sequences):
    network = build(small(sequences=sequences))
    images = torch.randn(1, sequences, 16, 16, 16)
    assert network(images, every(1, sequences)).shape == (1, 3, 16, 16, 16)


@pytest.mark.parametrize("contents", [math.nan, math.inf, 1e30, 0.0])
def test_the_contents_of_a_missing_sequence_do_not_matter(small, contents):
    network = shaken(small())
    images, present = (
        torch.randn(2, 4, 16, 16, 8),
        torch.tensor([[True, False, True, True], [False, True, True, False]]),
    )
    with torch.inference_mode():
        expected = network(images, present)
        images[~present] = contents
        result = network(images, present)
    assert torch.isfinite(result).all()
    torch.testing.assert_close(result, expected, rtol=0, atol=0)


def test_each_of_the_15_subsets_gives_a_result_of_its_own(small):
    network, images = shaken(small()), torch.randn(1, 4, 16, 16, 16)
    subsets = torch.tensor([flags for flags in product((True, False), repeat=4) if any(flags)])
    with torch.inference_mode():
        results = [network(images, present[None]) for present in subsets]
    assert len(results) == 15
    assert torch.isfinite(torch.cat(results)).all()
    for n, one in enumerate(results):
        for other in results[:n]:
            assert (one - other).abs().max() > 1e-2


def test_slots_may_be_permuted_together_with_their_weights(small):
    network, order = shaken(small()), [2, 0, 3, 1]
    images, present = torch.randn(1, 4, 16, 16, 16), torch.tensor([[True, True, False, True]])
    with torch.inference_mode():
        expected = network(images, present)
        fusion = network.encoder.fusion
        fusion.project.copy_(fusion.project[order].clone())
        fusion.gain.copy_(fusion.gain[order].clone())
        fusion.shift.copy_(fusion.shift[order].clone())
        torch.testing.assert_close(
            network(images[:, order], present[:, order]), expected, atol=1e-4, rtol=1e-4
        )


def test_prompts_change_nothing_at_the_start(small):
    network = build(small(prompts=3)).eval()
    images, prompts = torch.randn(1, 4, 16, 16, 16), torch.rand(1, 3, 16, 16, 16)
    with torch.inference_mode():
        without = network(images, every(1, 4))
        torch.testing.assert_close(network(images, every(1, 4), prompts), without, rtol=0, atol=0)


def test_empty_prompts_equal_none_after_training_of_their_weights(small):
    network = build(small(prompts=2)).eval()
    nn.init.normal_(network.encoder.prompt[1].weight)
    images, prompts = torch.randn(1, 4, 16, 16, 16), torch.zeros(1, 2, 16, 16, 16)
    with torch.inference_mode():
        without = network(images, every(1, 4))
        torch.testing.assert_close(network(images, every(1, 4), prompts), without)
        prompts[0, 0, 8, 8, 8] = 1
        assert (network(images, every(1, 4), prompts) - without).abs().max() > 1e-4


def test_prompts_learn_from_the_start(small):
    network = build(small(prompts=1))
    network(
        torch.randn(1, 4, 16, 16, 16), every(1, 4), torch.rand(1, 1, 16, 16, 16)
    ).square().mean().backward()
    assert network.encoder.prompt[1].weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", ["cfb", "dac", "aspp", "plain"])
def test_a_contextual_block_changes_nothing_at_the_start(small, kind):
    without = build(small(context="none")).eval()
    network = build(small(context=kind, context_levels=(1, 2))).eval()
    missing = network.load_state_dict(without.state_dict(), strict=False)
    assert not missing.unexpected_keys
    assert all(".context." in key for key in missing.missing_keys)
    images = torch.randn(1, 4, 16, 16, 24)
    with torch.inference_mode():
        torch.testing.assert_close(network(images, every(1, 4)), without(images, every(1, 4)), rtol=0, atol=0)


def test_heads_of_the_coarser_levels_halve_the_size(small):
    network = build(
        small(channels=(4, 8, 8, 8), blocks=(1, 1, 1, 1), context_levels=(3,), deep_supervision=2)
    )
    outputs = network.deep(torch.randn(1, 4, 32, 48, 16), every(1, 4))
    assert [tuple(out.shape[2:]) for out in outputs] == [(32, 48, 16), (8, 12, 4), (4, 6, 2)]


@pytest.mark.parametrize("stride", [1, 2, 4])
def test_the_result_has_the_inputs_size_at_any_stem_stride(small, stride):
    network = build(small(stem_stride=stride))
    assert network(torch.randn(1, 4, 16, 32, 16), every(1, 4)).shape == (1, 3, 16, 32, 16)


def test_flat_kernels_do_not_look_along_k(small):
    network = build(
        small(
            kernel=(3, 3, 1),
            stem_stride=1,
            context="none",
            channels=(4, 4),
            blocks=(1, 1),
            deep_supervision=0,
            context_levels=(),
        )
    ).eval()
    assert all(conv.kernel_size[2] <= 2 for conv in network.modules() if isinstance(conv, nn.Conv3d))
    assert network(torch.randn(1, 4, 8, 8, 8), every(1, 4)).shape == (1, 3, 8, 8, 8)


def test_the_first_guess_is_the_prior(small):
    network = build(small(prior=0.02)).eval()
    with torch.inference_mode():
        outputs = network.deep(torch.randn(1, 4, 16, 16, 16), every(1, 4))
    for out in outputs:
        assert out.sigmoid().mean() == pytest.approx(0.02, abs=0.01)


def test_a_batch_is_its_samples(small):
    network = shaken(small())
    images, present = (
        torch.randn(2, 4, 16, 16, 16),
        torch.tensor([[True, True, True, True], [True, False, True, True]]),
    )
    with torch.inference_mode():
        both = network(images, present)
        for n in range(2):
            torch.testing.assert_close(
                both[n : n + 1], network(images[n : n + 1], present[n : n + 1]), atol=1e-4, rtol=1e-4
            )


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (torch.zeros(1, 3, 16, 16, 16), r"\(1, 3, 16, 16, 16\): \(N, 4, I, J, K\) is needed"),
        (torch.zeros(1, 4, 16, 20, 16), "multiples of 8"),
        (torch.zeros(1, 4, 8, 8, 8), "one of them at least 16"),
        (torch.zeros(4, 16, 16, 16), "is needed"),
    ],
)
def test_images_that_do_not_fit_are_refused(small, images, text):
    with pytest.raises(ValueError, match=text):
        build(small())(images, every(1, 4))


def test_flags_and_prompts_that_do_not_fit_are_refused(small):
    network, images = build(small(prompts=2)), torch.zeros(1, 4, 16, 16, 16)
    with pytest.raises(ValueError, match=r"present of shape \(1, 3\).*bool of shape \(1, 4\)"):
        network(images, every(1, 3))
    with pytest.raises(ValueError, match="torch.float32: bool"):
        network(images, torch.ones(1, 4))
    with pytest.raises(
        ValueError, match=r"prompts of shape \(1, 1, 16, 16, 16\): \(1, 2, 16, 16, 16\) is needed"
    ):
        network(images, every(1, 4), torch.zeros(1, 1, 16, 16, 16))


def test_clicks_are_never_ignored_silently(small):
    with pytest.raises(ValueError, match="prompts of shape"):
        build(small())(torch.zeros(1, 4, 16, 16, 16), every(1, 4), torch.zeros(1, 1, 16, 16, 16))


def test_costs_are_positive_and_add_up(small):
    network = build(small())
    shares = [parameters(part) for part in network.children()]
    assert min(shares) > 0
    assert sum(shares) == parameters(network) == sum(w.numel() for w in network.state_dict().values())
    assert parameters(network.requires_grad_(False)) == sum(shares)
    one, two = flops(network, (16, 16, 16)), flops(network, (16, 16, 32))
    assert one > 1e6
    assert two == pytest.approx(2 * one, rel=0.02)
    assert flops(build(small(context="none")), (16, 16, 16)) < one


def test_a_network_with_a_difference_sees_what_its_pair_shows_and_nothing_where_one_is_missing(small):
    torch.manual_seed(0)
    network = build(small(differences=[[1, 0]])).eval()
    assert network.encoder.fusion.project.shape[0] == 5
    images, all_there = torch.randn(1, 4, 16, 16, 16), torch.ones(1, 4, dtype=torch.bool)
    without = torch.tensor([[False, True, True, True]])
    with torch.inference_mode():
        first = network(images, without)
        changed = images.clone()
        changed[:, 0] = 7  # a missing sequence is never looked at, nor is what is derived from it
        torch.testing.assert_close(network(changed, without), first, rtol=0, atol=0)
        fused = network.fuse(images, all_there)
        network.encoder.fusion.project[4] = 0
        assert (network.fuse(images, all_there) - fused).abs().max() > 1e-3


def test_without_a_difference_nothing_is_new(small):
    torch.manual_seed(0)
    plain = build(small())
    assert plain.config.slots == 4
    assert plain.encoder.fusion.project.shape[0] == 4


def test_several_sets_of_one_case_are_fused_as_each_by_itself(small):
    torch.manual_seed(0)
    network = build(small(differences=[[1, 0]])).eval()
    images = torch.randn(1, 4, 16, 16, 16)
    sets = [torch.tensor([flags]) for flags in ([True] * 4, [True, False, True, False])]
    with torch.inference_mode():
        for fused, flags in zip(network.fuse_each(images, sets), sets, strict=True):
            torch.testing.assert_close(fused, network.fuse(images, flags), rtol=0, atol=0)
