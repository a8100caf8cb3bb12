"""`slem pretrain`: train the encoder on studies without labels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from slem_app.cli.gather_studies import gather_studies
from slem_app.errors import BadSetting

if TYPE_CHECKING:
    from slem_app.pretext.recipe import PretextRecipe
    from slem_app.pretext.run import PretrainReport
    from slem_app.weights import EncoderCard

__all__ = ["Pretrain"]


@dataclass(frozen=True)
class Pretrain:
    """Train the encoder on studies without labels; resumes an interrupted run.

    On several processes or machines: torchrun --nproc-per-node N -m slem_app.cli pretrain ...
    """

    data: tuple[Path, ...]
    """Folders of studies, labelled or not. Sequences may be missing, but a study needs at least two."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """Folder of the run; the encoder is written to OUT/model, for `slem finetune --parent OUT/model`."""
    recipe: str = "slem"
    """Name of a bundled recipe (slem, slem_all, slem_3d, slem_restore, jigen, multimodal_puzzle, supervoxel,
    masked, placebo), or a .yaml file.
    """
    preview: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only write OUT/preview.png, a picture of samples with their classes, and stop."""
    cache: Path | None = None
    """Folder for prepared cases. Default: OUT/cache."""
    held_out: float = 0.1
    """Share of the cases that are used for evaluation instead of training (none if there are fewer than five
    cases).
    """
    steps: int | None = None
    """Number of steps. Default: the recipe's."""
    batch: int | None = None
    """Samples in each step, over all processes. Default: the recipe's."""
    seed: int | None = None
    """Seed for weights and samples. Default: the recipe's."""
    device: str = "auto"
    """cpu, cuda, cuda:1 ... or auto."""
    workers: int = 0
    """Number of loader processes."""
    about: dict[str, str] = field(default_factory=dict)
    """For the card: data, terms, training, e.g. `data '16 cases of ...' terms 'CC-BY'`."""

    def run(self) -> None:
        """Prepare the cases, train, save."""
        from slem_app.pretext.recipe import load_recipe
        from slem_app.pretext.run import pretrain
        from slem_app.training import (
            device_of_this_process,
            first_process,
            first_process_first,
            join_processes,
            leave_processes,
        )
        from slem_app.volumes.cache import CaseCache

        device = device_of_this_process(self.device)
        join_processes(device)
        if not self.data:
            raise BadSetting("--data is empty: give at least one folder of studies")
        if not 0 <= self.held_out < 1:
            raise BadSetting(f"--held-out is a share from 0 to below 1, got {self.held_out:g}")
        recipe = load_recipe(
            self.recipe,
            **{
                name: getattr(self, name)
                for name in ("steps", "batch", "seed")
                if getattr(self, name) is not None
            },
        )
        card = self.card(recipe)
        cache = CaseCache(self.cache or self.out / "cache")
        with first_process_first():
            least = recipe.task.least
            ready = gather_studies(self.data, cache, recipe.sequences, recipe.preparation, least)
        if self.preview:
            from slem_app.pretext.preview import preview

            if first_process():
                print(
                    f"samples of {recipe.task.name}: "
                    f"{preview(recipe, cache, ready, self.out / 'preview.png')}"
                )
            return
        train, held_out = split(ready, self.held_out)
        report = pretrain(recipe, cache, train, self.out, held_out, device, self.workers, card=card)
        first = first_process()
        leave_processes()
        if first:
            print(summary(report, recipe, self.out))

    def card(self, recipe: PretextRecipe) -> EncoderCard:
        """The recipe's card with what `about` says."""
        if unknown := set(self.about) - {"data", "terms", "training", "version"}:
            raise BadSetting(
                f"--about accepts data, terms, training and version, not {', '.join(sorted(unknown))}"
            )
        about: dict[str, Any] = dict(self.about)
        return replace(recipe.card(), **about)


def split(ids: tuple[str, ...], share: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Cases to train on and cases to measure on: evenly out of the sorted list, at least one if there are
    five.
    """
    ids = tuple(sorted(ids))
    count = max(1, round(share * len(ids))) if share and len(ids) >= 5 else 0
    held_out = {ids[round((n + 0.5) * len(ids) / count - 0.5)] for n in range(count)}
    return tuple(i for i in ids if i not in held_out), tuple(sorted(held_out))


def summary(report: PretrainReport, recipe: PretextRecipe, out: Path) -> str:
    """What is printed at the end."""
    lines = [
        (
            f"{report.card.name} ({recipe.task.name}): {len(report.used)} cases, {recipe.settings.steps} "
            f"steps; encoder in {out / 'model'}"
        )
    ]
    lines += [f"  not used {case}: {reason}" for case, reason in list(report.skipped.items())[:10]]
    lines.append(f"  {report.outcome.throughput()}")
    if report.measured is not None:
        lines.append(
            "  held-out "
            + ", ".join(f"{name} {value:.3f}" for name, value in report.measured.figures.items())
        )
        if report.measured.confusion is not None:
            lines.append(confusion_table(report.measured.confusion.tolist(), recipe.sequences))
    return "\n".join(lines)


def confusion_table(counts: list[list[int]], sequences: tuple[str, ...]) -> str:
    """Shares of blocks: a row for each true sequence, a column for each named one."""
    rows = [f"  {'true, named':<12}" + "".join(f"{name:>7}" for name in sequences)]
    for name, row in zip(sequences, counts, strict=True):
        rows.append(f"  {name:<12}" + "".join(f"{value / max(1, sum(row)):7.2f}" for value in row))
    return "\n".join(rows)
