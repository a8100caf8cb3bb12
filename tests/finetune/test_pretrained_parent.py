"""Fine-tuning from a pre-trained encoder: what is taken over, and what the card says."""

from dataclasses import replace

import pytest
import torch

from slem_app.errors import BadWeights
from slem_app.finetune.recipe import FinetuneRecipe, load_recipe
from slem_app.finetune.run import finetune
from slem_app.pretext.network import PretextNetwork
from slem_app.pretext.tasks.slem import Slem
from slem_app.weights import BRAIN_SEQUENCES, EncoderCard, load_model, load_parent, save_pretrained
from tests.finetune.conftest import COARSE, TINY


@pytest.fixture
def encoder(tmp_path):
    torch.manual_seed(5)
    network = PretextNetwork(Slem(), TINY)
    card = EncoderCard("tiny_ssl", "2", "A test's encoder.", "slem", BRAIN_SEQUENCES, 1, False, TINY, COARSE)
    save_pretrained(tmp_path / "encoder", card, network)
    return load_parent(tmp_path / "encoder")


@pytest.fixture
def recipe(settings) -> FinetuneRecipe:
    return FinetuneRecipe(
        replace(load_recipe("brain").card, name="tiny", network=TINY, preparation=COARSE),
        settings(steps=1, rate=1e-9, frozen=1.0),
    )


def test_the_encoder_is_where_it_starts(cache, recipe, encoder, tmp_path):
    card = finetune(recipe, cache, cache.ids(), tmp_path / "run", encoder, progress=False)
    assert card.parent == "tiny_ssl 2"
    network = load_model(tmp_path / "run" / "model").network
    for name, tensor in encoder.state.items():
        if name.startswith(("encoder.stem", "encoder.levels", "encoder.context")):
            torch.testing.assert_close(network.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
    slots = network.encoder.fusion.project.data  # they add up to the encoder's one slot
    torch.testing.assert_close(
        slots.sum(dim=0), encoder.state["encoder.fusion.project"][0], rtol=1e-2, atol=2e-3
    )


def test_parts_may_start_anew(cache, recipe, encoder, tmp_path):
    other = replace(recipe, settings=replace(recipe.settings, fresh=("context",)))
    finetune(other, cache, cache.ids(), tmp_path / "run", encoder, progress=False)
    name = "encoder.context.1.reduce.0.weight"
    assert not torch.allclose(
        load_model(tmp_path / "run" / "model").network.state_dict()[name], encoder.state[name], atol=1e-3
    )


def test_an_encoder_of_another_network_is_refused(cache, recipe, encoder, tmp_path):
    wider = replace(recipe, card=replace(recipe.card, network=replace(TINY, stem_channels=4)))
    with pytest.raises(
        BadWeights, match="tiny_ssl was trained for another network .stem_channels: 8 there, 4 here."
    ):
        finetune(wider, cache, cache.ids(), tmp_path / "run", encoder, progress=False)
    assert not (tmp_path / "run").exists()
