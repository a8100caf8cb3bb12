"""Parts of the network against torch's own and against each other."""

import pytest
import torch
from torch import nn

from slem_app.network.blocks import ConvNorm, InstanceNorm, ResidualBlock, SpaceToChannels, channels_to_space


@pytest.mark.parametrize("samples", [1, 3])
def test_instance_norm_is_torchs(samples):
    ours, theirs = InstanceNorm(5), nn.InstanceNorm3d(5, affine=True)
    nn.init.normal_(ours.weight)
    nn.init.normal_(ours.bias)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(samples, 5, 4, 6, 3) * 3 + 2
    mine, other = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.testing.assert_close(ours(mine), theirs(other), atol=1e-5, rtol=1e-5)
    weight = torch.randn_like(x)
    (ours(mine) * weight).sum().backward()
    (theirs(other) * weight).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad, atol=1e-4, rtol=1e-4)


def test_instance_norm_looks_at_each_sample_alone_in_evaluation_too():
    norm = InstanceNorm(3).eval()
    x = torch.randn(2, 3, 4, 4, 4)
    torch.testing.assert_close(norm(x)[:1], norm(x[:1]))
    assert not list(norm.buffers())


def test_a_norm_that_starts_at_zero_gives_zero():
    assert not InstanceNorm(3, zero=True)(torch.randn(1, 3, 4, 4, 4)).any()


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_channels_to_space_inverts_space_to_channels(stride):
    x = torch.randn(2, 3, 6, 12, 18)
    folded = SpaceToChannels(stride)(x)
    assert folded.shape == (2, 3 * stride**3, 6 // stride, 12 // stride, 18 // stride)
    torch.testing.assert_close(channels_to_space(folded, stride), x, rtol=0, atol=0)


def test_space_to_channels_keeps_each_cube_together():
    x = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    cube = SpaceToChannels(2)(x)[0, :, 1, 0, 1]
    torch.testing.assert_close(cube, x[0, 0, 2:4, 0:2, 2:4].flatten())


@pytest.mark.parametrize("kernel", [(3, 3, 3), (3, 3, 1), (1, 1, 1)])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_convolutions_keep_the_size(kernel, dilation):
    assert ConvNorm(2, 4, kernel, dilation)(torch.randn(1, 2, 7, 5, 3)).shape == (1, 4, 7, 5, 3)


@pytest.mark.parametrize("outputs", [4, 6])
def test_a_residual_block_without_its_branch_is_its_shortcut(outputs):
    block = ResidualBlock(4, outputs)
    nn.init.zeros_(block.second[1].weight)
    x = torch.randn(1, 4, 5, 5, 5)
    torch.testing.assert_close(block(x), nn.functional.leaky_relu(block.shortcut(x), 0.01))
