"""Recipes: every bundled one loads; unknown names, keys and values are refused."""

from dataclasses import replace

import pytest
import torch
import yaml

from slem_app.errors import BadCard, BadSetting, NotFound
from slem_app.finetune.recipe import load_recipe, recipe_names
from slem_app.finetune.settings import FinetuneSettings
from slem_app.network import build
from slem_app.weights import load_pretrained
from slem_app.weights.fields import to_table
from slem_app.weights.transfer import transfer


@pytest.mark.parametrize("name", recipe_names())
def test_bundled_recipes_load(name):
    recipe = load_recipe(name)
    assert recipe.card.file == ""
    assert all(n % recipe.card.network.multiple == 0 for n in recipe.settings.patch)


def test_the_brain_recipe_makes_the_three_parts_of_a_glioma():
    card = load_recipe("brain").card
    assert card.labels.names == ("necrosis", "edema", "enhancing tumor")
    assert card.sequences == ("t1n", "t1c", "t2w", "t2f")


@pytest.mark.parametrize("name", ["chaos", "chaos_clicks"])
def test_the_chaos_recipes_make_four_organs_that_exclude_each_other(name):
    card = load_recipe(name).card
    assert card.labels.names == ("liver", "right kidney", "left kidney", "spleen")
    assert [region.labels for region in card.labels.regions] == [(label,) for label in card.labels.names]
    assert card.sequences == ("t1_in", "t1_out", "t2")
    assert [label.laterality for label in card.labels.labels] == ["", "right", "left", ""]
    assert card.mirrors == ()


def test_a_model_that_tells_sides_apart_is_never_mirrored_across():
    card = load_recipe("chaos").card
    with pytest.raises(
        BadCard,
        match=r"mirrors must not hold axis 0 \(R-L\).*the labels right kidney, left kidney have a side",
    ):
        replace(card, mirrors=(0,))
    with pytest.raises(BadCard, match=r"inference.mirror \[1\] must lie among mirrors \[\]"):
        replace(card, inference=replace(card.inference, mirror=(1,)))
    with pytest.raises(BadCard, match="mirrors must hold axes out of 0, 1, 2"):
        replace(card, mirrors=(3,))


@pytest.fixture
def written(tmp_path):
    def write(settings: object, card: dict | None = None, **more: object) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(
            yaml.safe_dump(
                {"card": card or to_table(load_recipe("brain").card), "settings": settings, **more}
            )
        )
        return str(path)

    return write


def test_a_recipe_holds_only_what_differs(written):
    recipe = load_recipe(written({"steps": 7, "augment": {"flip": 0.0}}), seed=3)
    defaults = FinetuneSettings()
    assert recipe.settings == replace(defaults, steps=7, seed=3, augment=replace(defaults.augment, flip=0.0))
    assert load_recipe(written(None)).settings == defaults


def test_changes_win_over_the_recipe(written):
    assert load_recipe(written({"steps": 7}), steps=9).settings.steps == 9


def test_unknown_names_are_refused():
    with pytest.raises(NotFound, match=r"no recipe 'brian': give a \.yaml file, or one of .*brain"):
        load_recipe("brian")


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"step": 7}, BadSetting, "unknown key 'step'"),
        ({"augment": {"flop": 1.0}}, BadSetting, "augment.*unknown key 'flop'"),
        ({"steps": "many"}, BadCard, "steps: int is needed, got 'many'"),
        ({"steps": 0}, BadCard, "steps, batch, rate and save_every must be positive"),
        ({"foreground": 1.5}, BadCard, "foreground between 0 and 1"),
    ],
)
def test_wrong_settings_are_refused(written, settings, error, text):
    with pytest.raises(error, match=text):
        load_recipe(written(settings))


def test_wrong_cards_are_refused(written):
    card = to_table(load_recipe("brain").card)
    with pytest.raises(BadCard, match="colour"):
        load_recipe(written({}, {**card, "colour": "red"}))
    with pytest.raises(BadSetting, match="keys card and settings"):
        load_recipe(written({}, card, extra=1))


def test_the_bundled_encoder_fits_the_brain_recipe():
    card = load_recipe("brain").card
    parent = load_pretrained("slem_brain_ssl")
    network = build(card.network)
    told = transfer(parent, network, card.sequences)
    assert {name.split(".")[0] for name in told.taken} == {"encoder", "decoder"}
    assert {name.split(".")[0] for name in told.new} == {"head", "deep_heads"}
    projection = network.encoder.fusion.project.data  # a slot for each sequence, as SLeM has learnt them
    torch.testing.assert_close(projection, parent.state["encoder.fusion.project"])
    assert len({tuple(slot.flatten().tolist()) for slot in projection}) == len(card.sequences)
