"""One setting of `recipes.py`: its cases, folds and recipes; train, predict, score; what goes to a GPU
machine and what comes back.
"""

from __future__ import annotations

import lzma
import shutil
import tarfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from cases import SIX_APART, split
from missing import subsets
from recipes_arms import ARMS, SETTINGS, Setting

from slem_app.finetune.recipe import FinetuneRecipe, load_recipe
from slem_app.finetune.run import finetune
from slem_app.finetune.settings import FinetuneSettings
from slem_app.labels import LabelSet
from slem_app.network import SegmenterConfig
from slem_app.predict import Predictor
from slem_app.regions import restore
from slem_app.training.state import Curve
from slem_app.types import Grid
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.prepare import Prepared
from slem_app.weights import load_model, load_parent
from slem_app.weights.fields import from_table, merge, to_table

__all__ = ["APART", "EVERY_CASE", "KEY", "REGIONS", "Bench", "Unit"]

REGIONS = ("WT", "TC", "ET")
KEY = ("setting", "arm", "seed", "fold", "case", "subset")
EVERY_CASE = "all"  # the fold that leaves nothing out: the model to be bundled
APART = "apart"  # the fold that leaves out the six cases of most tables
LEVELS = 31  # steps of a predicted probability on its way; 0.5 lies between two of them
SHADES = 32  # steps a sd in a pack: noise of 1/110 sd, and a third of the size


@dataclass(frozen=True)
class Unit:
    """One training."""

    arm: str
    seed: int
    fold: str
    """Number of the test fold, 'apart' or 'all'."""

    @property
    def name(self) -> str:
        return f"{self.arm}-seed{self.seed}-fold{self.fold}"


@dataclass(frozen=True)
class Bench:
    """The runs of one setting."""

    setting: str
    """Name in SETTINGS."""
    runs: Path
    """Folder of all settings' runs."""
    device: str = "cpu"
    """torch device."""
    workers: int = 0
    """Loader processes."""
    steps: int = 0
    """Steps; 0: the setting's."""
    parent: str = ""
    """Folder of the encoder or model to start from, with {fold} where each fold has its own; ''
    starts from nothing.
    """

    @property
    def shared(self) -> Setting:
        return SETTINGS[self.setting]

    @property
    def folder(self) -> Path:
        return self.runs / self.setting

    @property
    def cache(self) -> CaseCache:
        return CaseCache(self.folder / "cache")

    @property
    def labels(self) -> LabelSet:
        return load_recipe("brain").card.labels

    def recipe(self, arm: str, seed: int) -> FinetuneRecipe:
        """The brain recipe with the setting's and the arm's differences; all arms have as many passes."""
        recipe, shared, this = load_recipe("brain"), self.shared, ARMS[arm]
        table = merge(to_table(recipe.settings), shared.finetune, self.setting)
        table = merge(table, this.finetune, arm)
        table |= {"steps": self.steps or shared.steps, "seed": seed}
        table["batch"] = shared.passes // 2 if table["pairs"]["on"] else shared.passes
        network = {**to_table(recipe.card.network), **shared.network, **this.network}
        network["channels"] = [round(this.width * n) for n in network["channels"]]
        network["stem_channels"] = round(this.width * network["stem_channels"])
        card = replace(
            recipe.card,
            network=from_table(SegmenterConfig, network, arm),
            preparation=replace(recipe.card.preparation, **shared.preparation),
            inference=replace(recipe.card.inference, mirror=shared.mirror),
        )
        return FinetuneRecipe(card, from_table(FinetuneSettings, table, arm))

    def test(self, fold: str) -> tuple[str, ...]:
        """The cases that a fold leaves out."""
        if fold == EVERY_CASE:
            return ()
        if fold == APART:
            return tuple(case for case in self.cache.ids() if case in SIX_APART)
        return split(self.cache, "six", self.shared.folds)[int(fold)]

    def place(self, unit: Unit) -> Path:
        return self.folder / "runs" / unit.name

    def model(self, unit: Unit) -> Path:
        return self.place(unit) / "model"

    def predicted(self, unit: Unit) -> Path:
        return self.place(unit) / "predicted.npz"

    def finished(self, unit: Unit) -> bool:
        done = self.model(unit) / "card.yaml" if unit.fold == EVERY_CASE else self.predicted(unit)
        return done.exists()

    def train(self, unit: Unit) -> None:
        """Continue one training to its end and predict its test cases; what is done is not done again."""
        test, folder = self.test(unit.fold), self.place(unit)
        if not (self.model(unit) / "card.yaml").exists():
            parent = load_parent(Path(self.parent.format(fold=unit.fold))) if self.parent else None
            finetune(
                self.recipe(unit.arm, unit.seed),
                self.cache,
                [case for case in self.cache.ids() if case not in test],
                folder,
                parent,
                self.device,
                self.workers,
            )
        if test and not self.predicted(unit).exists():
            self._predict(unit, test)
        for rest in ("checkpoint.pt", "tensorboard", "soup"):
            shutil.rmtree(folder / rest, ignore_errors=True)
            (folder / rest).unlink(missing_ok=True)

    def _predict(self, unit: Unit, test: Sequence[str]) -> None:
        """Probabilities of every test case and subset in steps of 1/31, without their empty borders."""
        predictor = Predictor(load_model(self.model(unit), self.device), self.device)
        new = self.predicted(unit).with_suffix(".new")
        with zipfile.ZipFile(new, "w", zipfile.ZIP_LZMA) as file:
            for case in test:
                cached = self.cache.load(case)
                images = np.array(cached.images, dtype=np.float32)
                for subset, flags in subsets(predictor.card.sequences):
                    here = np.array(flags) & cached.present
                    prepared = Prepared(images, here, predictor.card.sequences, cached.grid, cached.grid)
                    found = np.round(LEVELS * predictor.probabilities(prepared)).astype(np.uint8)
                    box = bounding_box(found.any(axis=0)) if found.any() else (slice(0, 1),) * 3
                    start = "_".join(str(side.start) for side in box)
                    with file.open(f"{case}|{subset}|{start}.npy", "w") as entry:
                        np.lib.format.write_array(entry, found[(slice(None), *box)])
        new.replace(self.predicted(unit))

    def probabilities(self, unit: Unit) -> Iterator[tuple[str, str, np.ndarray]]:
        """Case, subset, (R, I, J, K) float32 of what a unit predicted."""
        with np.load(self.predicted(unit)) as file:
            for name in file.files:
                case, subset, start = name.split("|")
                part = file[name]
                whole = np.zeros((len(part), *self.cache.load(case).grid.shape), dtype=np.float32)
                box = tuple(
                    slice(int(a), int(a) + n) for a, n in zip(start.split("_"), part.shape[1:], strict=True)
                )
                whole[(slice(None), *box)] = part.astype(np.float32) / LEVELS
                yield case, subset, whole

    def score(self, unit: Unit, data: Path) -> Iterator[dict[str, object]]:
        """A row for every test case and subset, on the grid of the case's own images."""
        from slem_app.evaluate.scores import region_scores  # needs MONAI, which a training server lacks
        from slem_app.finetune.cases import truth
        from slem_app.studies import open_source

        card, source = self.recipe(unit.arm, unit.seed).card, open_source(data)
        steps = Curve.read(self.place(unit) / "losses.csv")[-1]["step"]
        known: dict[str, tuple[np.ndarray, Grid]] = {}
        for case, subset, probabilities in self.probabilities(unit):
            if case not in known:
                known = {case: truth(source.study(case), card.labels)}
            expected, grid = known[case]
            found = restore(probabilities, self.cache.load(case).grid, grid, card.labels, card.postprocess)
            scores = region_scores(found, expected, grid, card.labels, surface=False)
            voxel = abs(np.linalg.det(grid.affine[:3, :3])) / 1000
            row = dict(zip(KEY, (self.setting, unit.arm, unit.seed, unit.fold, case, subset), strict=True))
            row["steps"] = steps
            row |= {region: round(scores[region], 4) for region in REGIONS}
            for region, here, there in zip(
                REGIONS, card.labels.region_masks(found), card.labels.region_masks(expected), strict=True
            ):
                row[f"{region}_ml"] = round(float(here.sum() * voxel), 2)
                row[f"{region}_true_ml"] = round(float(there.sum() * voxel), 2)
            yield row

    def prepare(self, data: Path) -> None:
        """Fill the cache."""
        from slem_app.finetune.cases import cache_cases
        from slem_app.studies import open_source

        card = self.recipe("old", 0).card
        report = cache_cases(
            open_source(data), self.cache, card.sequences, card.preparation, card.labels, print
        )
        for case, reason in report.skipped.items():
            print(f"left out {case}: {reason}")

    def pack(self, path: Path) -> int:
        """The cache as one .tar.xz, intensities in steps of 1/32 sd; returns its bytes."""
        slim, cache = self.folder / "slim", self.cache
        shutil.rmtree(slim, ignore_errors=True)
        for name in cache.ids():
            shutil.copytree(cache.folder / name, slim / name)
            images = np.load(slim / name / "images.npy").astype(np.float32)
            shades = np.round(images * SHADES)
            shades[(images != 0) & (shades == 0)] = 1  # inside the head nothing is 0
            np.save(slim / name / "images.npy", (shades / SHADES).astype(np.float16))
        path.parent.mkdir(parents=True, exist_ok=True)
        with lzma.open(path, "wb", preset=6) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
            tar.add(slim, "cache")
        shutil.rmtree(slim)
        return path.stat().st_size

    def unpack(self, path: Path) -> None:
        """Such a file into this setting's folder."""
        with tarfile.open(path) as tar:
            tar.extractall(self.folder, filter="data")

    def out(self, units: Sequence[Unit], models: Sequence[str], folder: Path) -> None:
        """What a GPU machine gives back: a .tar of predictions an arm, and one of the model for each unit of
        the arms `models`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        done = [unit for unit in units if self.finished(unit)]
        for arm in dict.fromkeys(unit.arm for unit in done):
            with tarfile.open(folder / f"predicted-{arm}.tar", "w") as tar:
                for unit in done:
                    if unit.arm == arm and unit.fold != EVERY_CASE:
                        tar.add(self.predicted(unit), f"{unit.name}/predicted.npz")
                        tar.add(self.place(unit) / "losses.csv", f"{unit.name}/losses.csv")
        for unit in done:
            if unit.arm in models:
                with tarfile.open(folder / f"model-{unit.name}.tar", "w") as tar:
                    tar.add(self.model(unit), f"{unit.name}/model")

    def into(self, folder: Path) -> None:
        """Take in what `out` gave."""
        for path in sorted(folder.glob("*.tar")):
            with tarfile.open(path) as tar:
                tar.extractall(self.folder / "runs", filter="data")
