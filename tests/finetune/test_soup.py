"""The soup is the mean of the late checkpoints, and of no others."""

import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.finetune.loop import train
from slem_app.finetune.soup import Soup
from slem_app.network import build
from tests.finetune.conftest import TINY


def linear(value: float) -> torch.nn.Linear:
    layer = torch.nn.Linear(2, 1)
    with torch.no_grad():
        layer.weight.fill_(value)
        layer.bias.fill_(-value)
    return layer


def test_late_checkpoints_are_averaged(tmp_path):
    soup = Soup(tmp_path, 10, 0.5)
    for step, value in ((2, 100.0), (4, 50.0), (6, 1.0), (8, 2.0), (10, 6.0)):
        soup.add(step, linear(value))
    assert soup.steps() == (6, 8, 10)
    result = linear(0.0)
    soup.into(result)
    assert result.weight.tolist() == [[3.0, 3.0]]
    assert result.bias.tolist() == [-3.0]


def test_an_empty_soup_changes_nothing(tmp_path):
    result = linear(7.0)
    Soup(tmp_path, 10, 0.5).into(result)
    assert result.bias.item() == -7


def test_a_training_returns_its_soup(cache, settings, tmp_path):
    torch.manual_seed(0)
    seen = {}

    def note(step: int, network: torch.nn.Module) -> None:
        seen[step] = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    quick = settings(soup=0.5, save_every=1)
    network = train(build(TINY), cache, cache.ids(), quick, tmp_path, progress=False, on_checkpoint=note)
    for name, tensor in network.state_dict().items():
        expected = torch.stack([seen[step][name] for step in (2, 3, 4)]).double().mean(dim=0)
        torch.testing.assert_close(tensor.double(), expected, atol=1e-6, rtol=1e-5)


def test_a_share_that_is_none_is_refused(settings):
    with pytest.raises(BadSetting, match="soup is a share"):
        settings(soup=1.0)
