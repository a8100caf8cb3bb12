"""SLeM with a slot for each sequence: what is exchanged, what is named, what carries over to a segmenter."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting
from slem_app.pretext.network import PretextNetwork
from slem_app.pretext.recipe import PretextRecipe
from slem_app.pretext.samples import Samples
from slem_app.pretext.task import HeadView
from slem_app.pretext.tasks.slem_restore import SlemSlotsRestore
from slem_app.pretext.tasks.slem_slots import SlemSlots, exchange
from slem_app.volumes.cache import CaseCache


def view(present: tuple[bool, ...] = (True,) * 4) -> HeadView:
    """A solid box of tissue; every voxel of sequence s is s + 1, so that a voxel tells where it is from."""
    images = np.zeros((len(present), 32, 32, 16), np.float32)
    images[:, 2:-2, 2:-2, 2:-2] = 1 + np.arange(len(present))[:, None, None, None]
    images[~np.array(present)] = 0
    return HeadView(images, np.array(present))


@pytest.fixture
def _as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "slem_app.pretext.tasks.slem.vary", lambda image, tissue, spacing, rng, settings: image
    )


@pytest.mark.usefixtures("_as_it_is")
def test_each_block_is_exchanged_by_its_shift_in_all_slots(rng: np.random.Generator) -> None:
    seen = set()
    for _ in range(20):
        made = exchange(view(), rng, SlemSlots())
        for block, shift in enumerate(made.shifts, 1):
            shown = made.images[:, made.cells == block]
            assert (shown == 1 + (np.arange(4)[:, None] + shift) % 4).all()
        assert not made.images[:, made.cells == 0].any()
        seen |= set(made.shifts.tolist())
    assert seen == {0, 1, 2, 3}


@pytest.mark.usefixtures("_as_it_is")
def test_a_sequence_that_a_case_lacks_has_no_part_in_the_exchange(rng: np.random.Generator) -> None:
    for _ in range(20):
        made = exchange(view((True, False, True, True)), rng, SlemSlots())
        assert not made.images[1].any()
        assert set(made.shifts.tolist()) <= {0, 1, 2}
        for block, shift in enumerate(made.shifts, 1):
            there = np.array([1, 3, 4])
            shown = made.images[[0, 2, 3]][:, made.cells == block]
            assert (shown == there[(np.arange(3) + shift) % 3][:, None]).all()


def test_half_of_the_blocks_stay_and_slots_are_left_out(rng: np.random.Generator) -> None:
    task, stayed, kept = SlemSlots(), 0, []
    for _ in range(60):
        sample = task.sample(view(), rng, 8)
        stayed += int((sample.targets["shifts"] == 0).sum())
        kept.append(int(sample.inputs["present"].sum()))
        assert not sample.inputs["images"][~sample.inputs["present"]].any()
    assert 90 < stayed < 150
    assert min(kept) >= 1
    assert {3, 4} <= set(kept)


def test_loss_and_figures_of_a_hand_worked_example() -> None:
    """Two sequences, two blocks: p(block 0 stays) = 0.8, p(block 1 stays) = 0.4; the second is exchanged."""
    logits = torch.log(torch.tensor([[[0.8, 0.2, 0.0], [0.4, 0.6, 0.0]]]) + 1e-30)
    targets = {"shifts": torch.tensor([[0, 1]]), "present": torch.tensor([[True, False, True]])}
    task, outputs = SlemSlots(), {"blocks": logits}
    assert task.losses(outputs, targets).item() == pytest.approx(-np.log(0.8 * 0.6))
    figures = {name: value.item() for name, value in task.metrics(outputs, targets).items()}
    assert figures == {"score": 1.0, "blocks": 1.0, "chance": 0.5}
    # Slots 0 and 2 show 0 and 2 in block 0, 2 and 0 in block 1, and that is what is said.
    assert task.confusion(outputs, targets).tolist() == [[2, 0, 0], [0, 0, 0], [0, 0, 2]]
    wrong = {"blocks": -logits.clamp_min(-10)}
    wrong["blocks"][..., 2] = 50.0  # a shift that two sequences do not have
    assert task.metrics(wrong, targets)["score"].item() == 0.0


def test_with_restoration_every_sequence_comes_back_as_it_was(
    cache: CaseCache, recipe: Callable[..., PretextRecipe]
) -> None:
    made = recipe("slem_slots_restore")
    assert isinstance(made.task, SlemSlotsRestore)
    inputs, targets = Samples(cache, cache.ids(), made.task, made.settings.view, 4, 1)[0]
    assert inputs["images"].shape == targets["truth"].shape == (4, 32, 32, 32)
    network = PretextNetwork(made.task, made.network)
    outputs = network({name: tensor[None] for name, tensor in inputs.items()})
    assert outputs["restored"].shape == (1, 4, 32, 32, 32)
    assert outputs["blocks"].shape == (1, 4, 4)
    assert network.encoder.fusion.project.shape[0] == 4


def test_refuses_impossible_options() -> None:
    with pytest.raises(BadSetting, match="unchanged must lie between 0 and 1"):
        SlemSlots(unchanged=1.0)
