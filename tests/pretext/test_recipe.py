"""Recipes: the bundled ones, differences over a base, what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from slem_app.errors import BadCard, BadSetting, NotFound
from slem_app.finetune.recipe import load_recipe as load_finetune
from slem_app.pretext.recipe import load_recipe, recipe_names
from slem_app.pretext.tasks import TASKS
from slem_app.weights.fields import to_table


@pytest.mark.parametrize(
    "name", [name for name in recipe_names() if load_recipe(name).sequences == load_recipe("slem").sequences]
)
def test_recipes_of_one_organ_differ_by_their_task_alone(name: str) -> None:
    recipe, slem = load_recipe(name), load_recipe("slem")
    assert (recipe.network, recipe.preparation, recipe.settings, recipe.sequences) == (
        slem.network,
        slem.preparation,
        slem.settings,
        slem.sequences,
    )
    assert recipe.card().task == recipe.task.name


def test_every_task_has_a_recipe_of_its_name() -> None:
    assert set(TASKS) <= set(recipe_names())
    for name in TASKS:
        assert load_recipe(name).task.name == name


def test_changes_go_over_the_recipe() -> None:
    recipe = load_recipe("slem_all", steps=7, network={"context": "none"}, options={"grid": [2, 2, 2]})
    assert recipe.settings.steps == 7
    assert recipe.network.context == "none"
    assert (recipe.task.labels, recipe.task.grid) == ("all", (2, 2, 2))


def test_a_recipe_may_build_on_another_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(
        "base: slem\nname: mine\nsequences: [t1_in, t1_out, t2]\nnetwork: {sequences: 3}\n"
    )
    (tmp_path / "more.yaml").write_text("base: mine\nname: more\nsettings: {rate: 0.01}\n")
    recipe = load_recipe(tmp_path / "more.yaml")
    assert recipe.sequences == ("t1_in", "t1_out", "t2")
    assert recipe.settings.rate == 0.01
    assert recipe.name == "more"
    assert to_table(recipe.card())["sequences"] == ["t1_in", "t1_out", "t2"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (
            "base: slem\noptions: {blocks: 4}",
            BadSetting,
            "options: unknown key 'blocks'; known: grid, labels",
        ),
        ("base: slem\nsettings: {view: {sahpe: 3}}", BadSetting, "settings.view: unknown key 'sahpe'"),
        ("base: slem\ntsak: slem", BadSetting, "unknown key 'tsak'; known: base, name"),
        ("base: slem\ntask: rotation", NotFound, "no pretext task 'rotation': choose one of slem, jigen"),
        ("base: slem\nsettings: {steps: many}", BadCard, "int is needed, got 'many'"),
        ("base: slem\nsettings: {steps: 0}", BadCard, "must be positive"),
        (
            "base: slem\nsettings: {view: {shape: [96, 100, 96]}}",
            BadSetting,
            "must hold multiples of the network's 16 voxels",
        ),
        ("base: slem\nsequences: [t1n]", BadSetting, "two or more sequences"),
        ("base: mine", BadSetting, "its own base"),
        ("- 1", BadSetting, "a table with the keys"),
        ("a: [", BadSetting, "not readable YAML"),
        ("task: slem", BadSetting, "missing key 'name', 'description', 'sequences'"),
    ],
)
def test_says_what_is_wrong(text: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(error, match=words.replace("[", r"\[")):
        load_recipe(tmp_path / "mine.yaml")


def test_an_unknown_recipe_names_the_known_ones() -> None:
    with pytest.raises(
        NotFound, match="no recipe 'slam': give a .yaml file, or one of chaos_slem, jigen, masked"
    ):
        load_recipe("slam")


def test_the_abdomens_recipe_puts_three_sequences_into_four_blocks():
    recipe = load_recipe("chaos_slem")
    assert recipe.sequences == ("t1_in", "t1_out", "t2")
    assert recipe.task.blocks == 4
    classes = recipe.task.classes(3)
    assert len(classes) == 36
    assert all(set(word) == {0, 1, 2} for word in classes)
    card = load_finetune("chaos").card
    # so that it can be its parent
    assert (recipe.preparation, replace(recipe.network, prior=card.network.prior)) == (
        card.preparation,
        card.network,
    )
