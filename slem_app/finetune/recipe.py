"""A recipe: the card of the model to be made and the settings of its training, as YAML. Bundled ones lie in
`recipes/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from slem_app.errors import BadSetting, NotFound
from slem_app.finetune.settings import FinetuneSettings
from slem_app.weights import Card
from slem_app.weights.card import card_of
from slem_app.weights.fields import from_table, merge, to_table
from slem_app.yaml_tables import load_yaml

__all__ = ["FinetuneRecipe", "load_recipe", "recipe_names"]

FOLDER = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class FinetuneRecipe:
    """What to train, and how."""

    card: Card
    """The model to be made; data, terms and figures are filled in afterwards."""
    settings: FinetuneSettings
    """Of the training."""


def recipe_names() -> tuple[str, ...]:
    """Names of the bundled recipes."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_recipe(name: str | Path, **changes: object) -> FinetuneRecipe:
    """A bundled recipe by its name, or any by its path.

    Args:
        name: e.g. 'brain' or 'my_recipe.yaml'.
        **changes: settings that replace the recipe's, e.g. steps=100, interact={'share': 0.25}.

    Raises:
        NotFound: no such recipe.
        BadSetting: it is not a table of card and settings.
        BadCard: an unknown or missing key, or a wrong value.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise NotFound(f"no recipe {str(name)!r}: give a .yaml file, or one of {', '.join(recipe_names())}")
    table = load_yaml(path.read_text(encoding="utf-8"))
    if not isinstance(table, Mapping) or set(table) != {"card", "settings"}:
        raise BadSetting(
            f"{path}: a recipe holds the keys card and settings, got "
            f"{list(table) if isinstance(table, Mapping) else table!r}"
        )
    settings = merge(to_table(FinetuneSettings()), table["settings"] or {}, f"{path}: settings")
    settings = merge(settings, changes, "settings")
    return FinetuneRecipe(
        card_of(table["card"], f"{path}: card"),
        from_table(FinetuneSettings, settings, f"{path}: settings"),
    )
