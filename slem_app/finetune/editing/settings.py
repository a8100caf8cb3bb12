"""Settings of the editor's training, and a recipe: its card and what differs from these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slem_app.errors import BadSetting, NotFound
from slem_app.weights.editor import EditorCard
from slem_app.weights.fields import from_table, merge, to_table
from slem_app.yaml_tables import load_yaml

__all__ = ["EditorRecipe", "EditorSettings", "load_editor_recipe"]

FOLDER = Path(__file__).parent / "recipes"
KINDS = ("automatic", "distorted", "swapped", "region", "empty")


@dataclass(frozen=True)
class EditorSettings:
    """What a training run depends on.

    Raises:
        BadSetting: a value out of range.
    """

    steps: int = 2000
    """Optimizer steps."""
    batch: int = 2
    """Views a step over all processes."""
    view: int = 48
    """Voxels of a view along each axis."""
    scale: tuple[float, float] = (0.85, 2.3)
    """Smallest and greatest size of a view's voxels, in those of the cases."""
    kinds: Mapping[str, float] = field(
        default_factory=lambda: dict(zip(KINDS, (0.36, 0.2, 0.24, 0.12, 0.08), strict=True))
    )
    """Share of each kind of sample: automatic or distorted result to truth, a swap in which the wanted map is
    itself a distorted truth, a region of like intensity, from nothing.
    """
    clicks: tuple[float, ...] = (0.5, 0.2, 0.12, 0.08, 0.04, 0.02, 0.01, 0.01, 0.01, 0.01)
    """Chance of 1, 2, ... clicks in a session; those before the last are answered by the network itself."""
    painted: float = 0.15
    """Share of first prompts that are strokes or filled outlines, not clicks."""
    replayed: float = 0.0
    """Share of views that show what a real reader saw before one of their prompts, in cases whose corrections
    are known.
    """
    unknown: float = 0.18
    """Share of views without automatic probabilities."""
    hidden: float = 0.25
    """Share of views whose labels have no names: what is learned then holds for any label."""
    keep_all: float = 0.55
    """Share of views with every sequence; in the others each stays by an even chance, at least one."""
    overshoot: float = 0.3
    """Weight of voxels that were right and are changed, in pieces of the error's size."""
    rate: float = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 1e-2
    """AdamW's weight decay."""
    warmup: float = 0.05
    """Share of the steps with rising rate; a cosine to zero follows."""
    average: float = 0.995
    """Decay of the moving average of the weights; the average is what is kept."""
    clip: float = 2.0
    """Largest norm of the gradient."""
    seed: int = 0
    """Seed of weights and samples."""
    save_every: int = 50
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", tuple(float(s) for s in self.scale))
        object.__setattr__(self, "clicks", tuple(float(c) for c in self.clicks))
        if self.steps < 1 or self.batch < 1 or self.rate <= 0 or self.save_every < 1 or self.view < 16:
            raise BadSetting(f"steps, batch, rate and save_every must be positive, view 16 or more: {self}")
        if set(self.kinds) != set(KINDS) or abs(sum(self.kinds.values()) - 1) > 1e-6:
            raise BadSetting(f"kinds needs a share for each of {', '.join(KINDS)}, together 1: {self.kinds}")
        if not 0 <= self.replayed < 1:
            raise BadSetting(f"replayed is a share, from 0 to less than 1: {self}")
        if abs(sum(self.clicks) - 1) > 1e-6 or not 0 < self.scale[0] <= self.scale[1]:
            raise BadSetting(f"clicks must add up to 1, scale must rise from above 0: {self}")


@dataclass(frozen=True)
class EditorRecipe:
    """What to train, and how."""

    card: EditorCard
    """The editor to be made."""
    settings: EditorSettings
    """Of the training."""


def load_editor_recipe(name: str | Path, **changes: object) -> EditorRecipe:
    """A bundled recipe by its name, or any by its path.

    Args:
        name: e.g. 'brain_editor' or 'mine.yaml'.
        **changes: settings that replace the recipe's.

    Raises:
        NotFound: no such recipe.
        BadSetting: it is not a table of card and settings.
        BadCard: an unknown or missing key, or a wrong value.
    """
    path = Path(name) if Path(name).suffix in (".yaml", ".yml") else FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(one.stem for one in FOLDER.glob("*.yaml")))
        raise NotFound(f"no editor recipe {str(name)!r}: give a .yaml file, or one of {known}")
    table = load_yaml(path.read_text(encoding="utf-8"))
    if not isinstance(table, Mapping) or set(table) != {"card", "settings"}:
        raise BadSetting(f"{path}: a recipe holds the keys card and settings, got {table!r:.80}")
    settings = merge(to_table(EditorSettings()), table["settings"] or {}, f"{path}: settings")
    settings = merge(settings, changes, "settings")
    return EditorRecipe(
        from_table(EditorCard, table["card"], f"{path}: card"),
        from_table(EditorSettings, settings, f"{path}: settings"),
    )
