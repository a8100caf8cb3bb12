"""Editors on disk."""

from dataclasses import replace

import pytest
import torch

from slem_app.errors import BadCard, BadWeights, NotFound
from slem_app.weights import load_editor, load_model, save_editor, save_model
from slem_app.weights.card import card_of
from slem_app.weights.fields import to_table
from tests.untrained import noisy, noisy_editor, small_card


def test_what_is_saved_is_read_again(tmp_path):
    editor = noisy_editor()
    card = save_editor(tmp_path / "small_editor", editor.card, editor.network)
    again = load_editor(tmp_path / "small_editor")
    assert again.card == card
    assert again.card.sha256
    for name, tensor in editor.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], tensor.half().float())


def test_a_damaged_file_is_refused(tmp_path):
    editor = noisy_editor()
    card = save_editor(tmp_path, editor.card, editor.network)
    data = bytearray((tmp_path / card.file).read_bytes())
    data[-1] ^= 1
    (tmp_path / card.file).write_bytes(data)
    with pytest.raises(BadWeights, match="damaged"):
        load_editor(tmp_path)


def test_a_model_brings_the_editor_that_its_card_names(tmp_path, monkeypatch):
    monkeypatch.setenv("SLEM_MODELS", str(tmp_path))
    editor = noisy_editor()
    save_editor(tmp_path / "small_editor", editor.card, editor.network)
    card = small_card(editor="small_editor")
    save_model(tmp_path / "small", card, noisy(card.network))
    assert load_model("small").editor.card.name == "small_editor"


def test_the_bundled_model_of_the_brain_brings_its_editor():
    model = load_model("slem_brain")
    assert model.editor.card == load_editor("slem_brain_editor").card
    assert model.editor.card.network.labels == model.card.labels.names
    assert model.editor.card.sequences == model.card.sequences


def test_an_editor_that_is_not_there_is_named(tmp_path):
    card = small_card(editor="nobody")
    save_model(tmp_path / "small", card, noisy(card.network))
    with pytest.raises(NotFound, match="nobody"):
        load_model(tmp_path / "small")


def test_a_card_from_before_there_were_editors_names_none():
    table = to_table(small_card())
    del table["editor"]
    assert card_of(table, "card.yaml") == small_card()


def test_an_editor_is_named_and_not_a_path():
    with pytest.raises(BadCard, match="bare name"):
        small_card(editor="../elsewhere")


@pytest.mark.parametrize("wrong", [{"view": 10}, {"scales": ()}, {"sequences": ("t1c",)}, {"name": "a b"}])
def test_cards_that_contradict_themselves_are_refused(wrong):
    with pytest.raises(BadCard):
        replace(noisy_editor().card, **wrong)
