"""SLeM with restoration: both losses from one collage; and the placebo, whose labels mean nothing."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.pretext.network import PretextNetwork
from slem_app.pretext.recipe import PretextRecipe
from slem_app.pretext.samples import Samples
from slem_app.pretext.tasks.placebo import Placebo
from slem_app.pretext.tasks.slem import Slem
from slem_app.pretext.tasks.slem_restore import SlemRestore
from slem_app.volumes.cache import CaseCache


def test_the_loss_is_the_class_and_twice_the_absolute_error() -> None:
    task = SlemRestore(slem=Slem(grid=(2, 1, 1)))
    logits = torch.log(torch.tensor([[[0.8, 0.2], [0.4, 0.6]]]))
    targets = {
        "word": torch.tensor([[0, 1]]),
        "present": torch.ones(1, 2, dtype=torch.bool),
        "truth": torch.zeros(1, 2, 1, 1, 1),
        "where": torch.ones(1, 2, 1, 1, 1, dtype=torch.bool),
    }
    outputs = {"blocks": logits, "restored": torch.tensor([0.5, -0.1]).reshape(1, 2, 1, 1, 1)}
    assert task.losses(outputs, targets).item() == pytest.approx(-np.log(0.48 / 0.56) + 2 * 0.3)
    assert set(task.metrics(outputs, targets)) == {"score", "blocks", "chance", "explained"}


def test_every_sequence_is_restored_as_it_was_not_as_the_collage_shows_it(
    cache: CaseCache, recipe: Callable[..., PretextRecipe]
) -> None:
    made = recipe("slem_restore")
    inputs, targets = Samples(cache, cache.ids(), made.task, made.settings.view, 4, 1)[0]
    assert inputs["images"].shape == (1, 32, 32, 32)
    assert targets["truth"].shape == (4, 32, 32, 32)
    outputs = PretextNetwork(made.task, made.network)({name: tensor[None] for name, tensor in inputs.items()})
    assert outputs["restored"].shape == (1, 4, 32, 32, 32)
    assert outputs["blocks"].shape == (1, 4, 4)
    with pytest.raises(BadSetting, match="the weight of the restoration must be positive"):
        SlemRestore(weight=0.0)


def test_placebo_shows_the_same_collages_under_other_labels(
    cache: CaseCache, recipe: Callable[..., PretextRecipe]
) -> None:
    real, fake = recipe("slem"), recipe("placebo")
    assert isinstance(fake.task, Placebo)
    both = [Samples(cache, cache.ids(), made.task, made.settings.view, 4, 24) for made in (real, fake)]
    same = 0
    for n in range(24):
        a, b = both[0][n], both[1][n]
        torch.testing.assert_close(a.inputs["images"], b.inputs["images"])
        assert sorted(b.targets["word"].tolist()) == [0, 1, 2, 3]
        same += a.targets["word"].tolist() == b.targets["word"].tolist()
    assert same <= 4
