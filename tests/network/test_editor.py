"""The editor's network: shapes, and what a fresh one says."""

import pytest
import torch

from slem_app.network import EditorConfig, EditorNetwork
from slem_app.network.editor import POINTED

CONFIG = EditorConfig(4, ((1, 0),), ("lesion",), (4, 8))


def pointed(size: int = 16) -> torch.Tensor:
    seen = torch.zeros(1, CONFIG.inputs, size, size, size)
    seen[0, CONFIG.prompts.start, 5, 6, 7] = 1
    return seen


def test_a_fresh_editor_gives_the_prompt_its_own_voxel_and_no_other():
    logits = EditorNetwork(CONFIG)(pointed(), torch.zeros(1, CONFIG.told))
    assert logits.shape == (1, 16, 16, 16)
    assert torch.argwhere(logits > 0).tolist() == [[0, 5, 6, 7]]


def test_answers_lie_where_the_voxels_lie():
    """Folding into the head and out again keeps every voxel in its place."""
    from slem_app.network.editor import _folded, _unfolded

    x = torch.arange(4.0**3).reshape(1, 1, 4, 4, 4)
    assert torch.equal(_unfolded(_folded(x))[0], x[0, 0])


def test_the_prompts_are_heard_at_every_level():
    torch.manual_seed(0)
    network = EditorNetwork(CONFIG)
    with torch.no_grad():
        network.head.weight.normal_()
        for block in [*network.encoder, *network.decoder]:
            block.convolutions[1].weight.normal_(std=0.1)
    seen = pointed().requires_grad_()
    network(seen, torch.zeros(1, CONFIG.told))[0, 15, 15, 15].backward()
    heard = seen.grad[0, CONFIG.prompts, 5, 6, 7]
    assert heard.shape == (len(POINTED),)
    assert (heard != 0).any()


@pytest.mark.parametrize(
    "wrong", [{"sequences": 0}, {"differences": ((4, 0),)}, {"channels": (4,)}, {"channels": (4, 6)}]
)
def test_impossible_shapes_are_refused(wrong):
    with pytest.raises(ValueError, match=r"takes 1 to 8|beyond|multiple of"):
        EditorConfig(**wrong)
