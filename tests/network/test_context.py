"""Contextual blocks begin as nothing, take any size, and look further than a plain block."""

import pytest
import torch
from torch import nn

from slem_app.network.context import context_block

KINDS = ["cfb", "dac", "aspp", "plain"]


def awake(kind: str, channels: int = 8, kernel: tuple[int, int, int] = (3, 3, 3)) -> nn.Module:
    """The block as after some training: its last norm no longer zero."""
    block = context_block(kind, channels, (1, 2, 3), kernel)
    nn.init.ones_(block.last.weight)
    return block


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_is_the_identity_at_the_start(kind):
    x = torch.randn(2, 8, 6, 5, 4)
    torch.testing.assert_close(context_block(kind, 8, (1, 2, 3), (3, 3, 3))(x), x, rtol=0, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_learns_from_the_start(kind):
    block = context_block(kind, 8, (1, 2, 3), (3, 3, 3))
    (block(torch.randn(1, 8, 6, 5, 4)) ** 2).sum().backward()
    assert block.last.weight.grad.abs().max() > 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(6, 6, 6), (7, 5, 3), (1, 2, 9)])
@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 3, 1)])
def test_sizes_are_kept(kind, size, kernel):
    assert awake(kind, kernel=kernel)(torch.randn(2, 8, *size)).shape == (2, 8, *size)


def reach(kind: str, wide: bool = True) -> int:
    """How many voxels away along I the output at the centre still depends on the input, but for what reaches
    all voxels alike.
    """
    block = awake(kind, 8).double()
    block.last = nn.Identity()  # norms look at the whole map: taken out, to see the convolutions
    for module in block.modules():
        if (
            isinstance(module, nn.Sequential)
            and len(module) > 1
            and hasattr(module[1], "weight")
            and module[1].weight.ndim == 1
        ):
            module[1] = nn.Identity()
    x = torch.randn(1, 8, 41, 3, 3, dtype=torch.double, requires_grad=True)
    block(x)[:, :, 20].sum().backward()
    profile = x.grad.abs().sum(dim=(0, 1, 3, 4))
    profile = (profile - profile[0]).abs()  # CFB's mean branch and gate touch the far border too, evenly
    return int((profile > 1e-9 * profile.max()).nonzero().flatten().sub(20).abs().max())


def test_the_branches_of_the_cfb_reach_as_far_as_its_dilations():
    torch.manual_seed(1)
    assert reach("dac") == 9
    assert reach("aspp") == 3
    assert reach("plain") == 3


def test_the_cfb_sees_the_whole_map_where_a_plain_block_does_not():
    """By gradient, norms taken out: the global branch makes the centre depend on the far border."""
    far = {}
    for kind in ("cfb", "plain"):
        block = awake(kind, 8)
        block.last = nn.Identity()
        for module in block.modules():
            if (
                isinstance(module, nn.Sequential)
                and len(module) > 1
                and hasattr(module[1], "weight")
                and module[1].weight.ndim == 1
            ):
                module[1] = nn.Identity()
        x = torch.randn(1, 8, 41, 3, 3, requires_grad=True)
        block(x)[:, :, 20].sum().backward()
        far[kind] = float(x.grad[:, :, 0].abs().max())
    assert far["plain"] == 0
    assert far["cfb"] > 0


def test_the_choice_among_branches_is_made_at_every_voxel():
    block = awake("cfb")
    x = torch.randn(1, 8, 6, 6, 6)
    weights = block.choose(block.reduce(x)).softmax(dim=1)
    assert weights.shape == (1, 5, 6, 6, 6)  # 1x1x1, three dilations, the whole image
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(1, 6, 6, 6))
    assert weights.var(dim=(2, 3, 4)).min() > 0


def test_the_control_costs_about_as_much_as_the_cfb():
    weights = [
        sum(p.numel() for p in context_block(kind, 128, (1, 2, 3), (3, 3, 3)).parameters())
        for kind in ("cfb", "plain")
    ]
    assert 0.9 < weights[0] / weights[1] < 1.15


def test_an_unknown_kind_is_refused():
    with pytest.raises(
        ValueError, match="unknown contextual block 'xyz': choose cfb, dac, aspp, plain or none"
    ):
        context_block("xyz", 8, (1,), (3, 3, 3))
