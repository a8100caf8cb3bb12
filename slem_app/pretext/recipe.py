"""A recipe: task, network and training of one pre-training, as YAML. Bundled ones lie in `recipes/`; they
hold only differences.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from slem_app.errors import BadSetting, NotFound
from slem_app.network import SegmenterConfig
from slem_app.pretext.settings import PretextSettings
from slem_app.pretext.task import Task
from slem_app.pretext.tasks import task_class
from slem_app.volumes.prepare import Preparation
from slem_app.weights import EncoderCard
from slem_app.weights.fields import from_table, merge, to_table
from slem_app.yaml_tables import load_yaml

__all__ = ["PretextRecipe", "load_recipe", "recipe_names"]

FOLDER = Path(__file__).parent / "recipes"
KEYS = ("base", "name", "description", "task", "sequences", "network", "preparation", "options", "settings")


@dataclass(frozen=True)
class PretextRecipe:
    """What to pre-train, and how.

    Raises:
        BadSetting: parts that contradict each other.
    """

    name: str
    """Of the encoder to be made."""
    description: str
    """One sentence for people."""
    sequences: tuple[str, ...]
    """Sequences, in the order of the segmenter's slots."""
    task: Task
    """With its options."""
    network: SegmenterConfig
    """Of the segmenter that the encoder is meant for."""
    preparation: Preparation
    """How cases are prepared; the same as the segmenter's."""
    settings: PretextSettings
    """Of the training."""

    def __post_init__(self) -> None:
        shape, multiple = self.settings.view.shape, self.network.multiple
        if (
            len(self.sequences) < 2
            or len(set(self.sequences)) != len(self.sequences)
            or len(self.sequences) != self.network.sequences
        ):
            given = ", ".join(self.sequences)
            raise BadSetting(
                f"a recipe needs two or more sequences, each once, and a network of as many slots: got "
                f"{given} and {self.network.sequences} slots"
            )
        if any(n % multiple for n in shape):
            raise BadSetting(f"view.shape {shape} must hold multiples of the network's {multiple} voxels")
        if reason := self.task.refuse(shape, np.ones(len(self.sequences), dtype=bool)):
            raise BadSetting(f"view.shape {shape} is {reason}")

    def card(self) -> EncoderCard:
        """The card of what will be made; data, terms, training and figures are filled in afterwards."""
        slots = self.task.slots(len(self.sequences))
        return EncoderCard(
            self.name,
            "1",
            self.description,
            self.task.name,
            self.sequences,
            slots,
            self.task.decodes,
            self.network,
            self.preparation,
        )

    def table(self) -> dict:
        """All settings, resolved, as plain tables: what a resumed run is compared by."""
        return {
            "task": self.task.name,
            "sequences": list(self.sequences),
            "network": to_table(self.network),
            "preparation": to_table(self.preparation),
            "options": to_table(self.task),
            "settings": to_table(self.settings),
        }


def recipe_names() -> tuple[str, ...]:
    """Names of the bundled recipes."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def load_recipe(name: str | Path, **changes: object) -> PretextRecipe:
    """A bundled recipe by its name, or any by its path.

    Args:
        name: e.g. 'slem' or 'my_recipe.yaml'.
        **changes: settings that replace the recipe's, e.g. steps=100; `network`, `options`, `preparation` and
            `sequences` may be given too.

    Raises:
        NotFound: no such recipe or task.
        BadSetting: an unknown or missing key, or parts that contradict each other.
        BadCard: a value of the wrong type.
    """
    table = _read(Path(name) if Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml")
    parts = {
        key: changes.pop(key) for key in ("network", "options", "preparation", "sequences") if key in changes
    }
    table = _joined(_joined(table, parts), {"settings": changes})
    if missing := [key for key in ("name", "description", "task", "sequences") if key not in table]:
        raise BadSetting(f"{name}: missing key {', '.join(map(repr, missing))}")
    kind = task_class(table["task"])

    def built(what: type, default: object, key: str) -> Any:
        return from_table(
            what, merge(to_table(default), table.get(key) or {}, f"{name}: {key}"), f"{name}: {key}"
        )

    return PretextRecipe(
        name=table["name"],
        description=table["description"],
        sequences=tuple(table["sequences"]),
        task=built(kind, kind(), "options"),
        network=built(SegmenterConfig, SegmenterConfig(), "network"),
        preparation=built(Preparation, Preparation(), "preparation"),
        settings=built(PretextSettings, PretextSettings(), "settings"),
    )


def _read(path: Path, seen: tuple[Path, ...] = ()) -> dict:
    """The table of a recipe, put over that of its base."""
    if not path.is_file():
        raise NotFound(f"no recipe {path.stem!r}: give a .yaml file, or one of {', '.join(recipe_names())}")
    if path in seen:
        raise BadSetting(f"{path}: a recipe that is its own base")
    try:
        table = load_yaml(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path} is not readable YAML: {error}") from error
    if not isinstance(table, Mapping):
        raise BadSetting(f"{path}: a table with the keys {', '.join(KEYS)} is needed, got {table!r}")
    if unknown := set(table) - set(KEYS):
        raise BadSetting(
            f"{path}: unknown key {', '.join(map(repr, sorted(map(str, unknown))))}; known: {', '.join(KEYS)}"
        )
    base = table.get("base")
    if not base:
        return dict(table)
    found = _read(
        path.with_name(f"{base}.yaml")
        if path.with_name(f"{base}.yaml").is_file()
        else FOLDER / f"{base}.yaml",
        (*seen, path),
    )
    if table.get("task", found.get("task")) != found.get("task"):
        found.pop("options", None)  # another task's
    return _joined(found, {key: value for key, value in table.items() if key != "base"})


def _joined(table: Mapping, over: Mapping) -> dict:
    both = dict(table)
    for key, value in over.items():
        both[key] = (
            _joined(both[key], value)
            if isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
            else value
        )
    return both
