"""Training for interaction: a simulated reader inside the loop. Opt-in by `InteractSettings.share`; zero leaves training as it was.

A step is either automatic (whole patches, no prompts) or interactive, decided by its number. An interactive step is what serving does: an
automatic pass over the patch without gradient gives the features before prompts and the first segmentation; a reader clicks into its errors;
a small view around the newest click is seen again with the prompts and the segmentation so far, and only that pass has a gradient. So it
costs less than an automatic step, and stem and fusion learn from automatic steps alone. All that is random comes from the sample's number:
a resumed run draws what an unbroken one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from slem_app.errors import BadSetting
from slem_app.finetune.losses import deep_loss
from slem_app.finetune.patches import Patches
from slem_app.finetune.settings import FinetuneSettings
from slem_app.labels import LabelSet
from slem_app.network import Segmenter
from slem_app.predict import best_precision
from slem_app.prompts import BACKGROUND, Box, Click, Prompts, ReaderSettings, Scribble, Shot, SimulatedReader, channel_count, encode
from slem_app.regions import PostProcess, decide
from slem_app.types import Grid

__all__ = ["InteractiveLosses", "NumberedPatches"]

STREAM = 7919  # keeps these random numbers apart from those of the patches


@dataclass(frozen=True)
class NumberedPatches:
    """Patches that tell their number."""

    patches: Patches
    """What is numbered."""

    def __len__(self) -> int:
        return len(self.patches)

    def case(self, number: int) -> str:
        """The case that patch `number` is of."""
        return self.patches.case(number)

    def __getitem__(self, number: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, int]:
        return (*self.patches[number], number)


class InteractiveLosses(nn.Module):
    """Network and loss as one module: a batch of numbered patches -> (1,).

    Args:
        network: with the prompt channels of `labels`.
        labels: the model's.
        spacing: (3,) mm of the patches' voxels.
        settings: of the run.

    Raises:
        BadSetting: a network without prompt channels, or views that it or the patch cannot hold.
    """

    def __init__(self, network: Segmenter, labels: LabelSet, spacing: Sequence[float], settings: FinetuneSettings) -> None:
        super().__init__()
        self.network, self.labels, self.spacing, self.settings = network, labels, np.asarray(spacing, dtype=np.float64), settings
        views, config = settings.interact.views, network.config
        if config.prompts != channel_count(labels):
            raise BadSetting(f"training for interaction: the card's network.prompts must be {channel_count(labels)} for these labels, it is {config.prompts}")
        if any(v % config.multiple or v > min(settings.patch) for v in views):
            raise BadSetting(f"interact.views {views}: each must be a multiple of {config.multiple} voxels and fit the patch {settings.patch}")
        self.reader = SimulatedReader(labels, ReaderSettings(jitter=settings.interact.jitter, wrong=settings.interact.wrong))

    def forward(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        images, present, regions, numbers = batch
        step = int(numbers[0]) // self.settings.batch
        rng = np.random.default_rng([self.settings.seed, STREAM, step])  # the same in every process
        if rng.random() >= self.settings.interact.share:
            with self._autocast(images):
                outputs = self.network.deep(images, present)
            return deep_loss(outputs, regions, self.settings.deep_weights)[None]
        side = int(rng.choice(self.settings.interact.views))
        with torch.no_grad(), self._autocast(images):
            fused = self.network.fuse(images, present)
            seen = self.network.deep_fused(fused)[0]
        views = [self._view(n, fused[i : i + 1], seen[i], regions[i], side) for i, n in enumerate(numbers.tolist())]
        fused = torch.cat([v.fused for v in views])
        prompts = torch.from_numpy(np.stack([v.prompts for v in views])).to(images.device)
        target = torch.stack([v.regions for v in views])
        with self._autocast(images):
            outputs = self.network.deep_fused(fused, prompts)
        near = torch.from_numpy(np.stack([v.near for v in views])).to(images.device)
        return (deep_loss(outputs, target, self.settings.deep_weights) + self.settings.interact.near * _near_loss(outputs[0], target, near))[None]

    def _autocast(self, images: torch.Tensor) -> torch.autocast:
        return torch.autocast(images.device.type, torch.bfloat16, enabled=best_precision(images.device) == "bfloat16")

    def _view(self, number: int, fused: torch.Tensor, seen: torch.Tensor, regions: torch.Tensor, side: int) -> _View:
        """What one sample's reader looks at and says."""
        settings = self.settings.interact
        rng = np.random.default_rng([self.settings.seed, STREAM + 1, number])
        truth = self._decided(regions)
        shown = np.zeros_like(truth) if rng.random() < settings.blank else self._decided(seen.float().sigmoid())
        clicks = int(rng.integers(1, settings.clicks + 1))
        shots = list(self.reader.shots(truth, shown, self.spacing, rng, clicks))
        middle = np.array(shots[int(rng.integers(len(shots)))].index) if shots else rng.integers(0, truth.shape)
        start = self._corner(rng, middle, truth.shape, side)
        box = tuple(slice(int(s), int(s + side)) for s in start)
        truth, shown = np.ascontiguousarray(truth[box]), np.ascontiguousarray(shown[box])
        s = self.network.config.stem_stride
        fused = fused[(slice(None), slice(None), *(slice(b.start // s, b.stop // s) for b in box))]
        grid = Grid(truth.shape, np.diag([*self.spacing, 1.0]))
        shots = [Shot(tuple(int(v) for v in np.array(t.index) - start), t.label, t.regions, t.right) for t in shots]
        shots = [t for t in shots if all(0 <= v < side for v in t.index)]
        prompts = self._told(rng, shots, truth, grid)
        if prompts.entries and rng.random() < settings.again:
            shown = self._seen_again(fused, prompts, grid, shown)
            prompts, shots = self._one_more(rng, prompts, shots, truth, shown, grid)
        if rng.random() < settings.box and truth.any():
            prompts = self._boxed(rng, prompts, truth, grid)
        near = encode(Prompts(prompts.entries[-1:]), grid, self.labels, sigma=settings.reach)[: len(self.labels.labels) + 1].max(axis=0)
        return _View(fused, encode(prompts, grid, self.labels, shown), regions[(slice(None), *box)], near)

    def _decided(self, probabilities: torch.Tensor) -> np.ndarray:
        return decide(probabilities.cpu().numpy(), self.labels, PostProcess(), 1.0)

    def _corner(self, rng: np.random.Generator, middle: np.ndarray, shape: tuple[int, ...], side: int) -> np.ndarray:
        """Corner of a view that holds `middle` off its faces; the network's first level has a voxel there."""
        start = middle - side // 2 + rng.integers(-(side // 5), side // 5 + 1, 3)
        stride = self.network.config.stem_stride
        return np.clip(start, 0, np.array(shape) - side) // stride * stride

    def _told(self, rng: np.random.Generator, shots: Sequence[Shot], truth: np.ndarray, grid: Grid) -> Prompts:
        """Shots as prompts, some of them as scribbles."""
        entries = []
        for shot in shots:
            line = _line(rng, shot, truth) if shot.right and rng.random() < self.settings.interact.scribbles else None
            entries.append(Click.on(grid, shot.index, shot.label) if line is None else Scribble.of(shot.label, line, grid))
        return Prompts(tuple(entries))

    def _seen_again(self, fused: torch.Tensor, prompts: Prompts, grid: Grid, shown: np.ndarray) -> np.ndarray:
        """The segmentation after `prompts`, changed near them only, as a reader would have it before the next click."""
        channels = torch.from_numpy(encode(prompts, grid, self.labels, shown))[None].to(fused.device)
        with torch.no_grad(), self._autocast(fused):
            after = self._decided(self.network.deep_fused(fused, channels)[0][0].float().sigmoid())
        reach = encode(prompts, grid, self.labels, sigma=self.settings.interact.reach)[: len(self.labels.labels) + 1].max(axis=0)
        return np.where(reach > 0.1, after, shown)

    def _one_more(
        self, rng: np.random.Generator, prompts: Prompts, shots: list[Shot], truth: np.ndarray, shown: np.ndarray, grid: Grid
    ) -> tuple[Prompts, list[Shot]]:
        new = list(self.reader.shots(truth, shown, self.spacing, rng, 1))
        return Prompts((*prompts.entries, *self._told(rng, new, truth, grid).entries)), [*shots, *new]

    def _boxed(self, rng: np.random.Generator, prompts: Prompts, truth: np.ndarray, grid: Grid) -> Prompts:
        """With a loose box around the truth; prompts that err outside it are dropped."""
        index = np.argwhere(truth)
        low, high = index.min(axis=0) - rng.integers(0, 5, 3), index.max(axis=0) + rng.integers(0, 5, 3)
        box = Box.on(grid, low.tolist(), high.tolist())
        return Prompts(tuple(e for e in prompts.entries if e.label == BACKGROUND or box.holds(np.array(e.world)).all()), box)


@dataclass(frozen=True, eq=False)
class _View:
    """One sample of an interactive step."""

    fused: torch.Tensor
    """(1, C, i/s, j/s, k/s) features before prompts."""
    prompts: np.ndarray
    """(P, i, j, k)."""
    regions: torch.Tensor
    """(R, i, j, k) truth."""
    near: np.ndarray
    """(i, j, k) weight, 1 at the newest prompt."""


def _near_loss(logits: torch.Tensor, target: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Cross-entropy around the newest prompts: what a reader watches after a click."""
    each = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean(dim=1)  # N i j k
    return (each * near).sum() / near.sum().clamp(min=1.0)


def _line(rng: np.random.Generator, shot: Shot, truth: np.ndarray) -> np.ndarray:
    """(i, j, k) bool: a stroke in one plane through the shot, as far as its label goes."""
    plane = int(rng.integers(3))
    direction = rng.standard_normal(3)
    direction[plane] = 0
    direction /= max(float(np.linalg.norm(direction)), 1e-6)
    painted = np.zeros(truth.shape, dtype=bool)
    value = truth[shot.index]
    for sign in (-1, 1):
        for step in range(int(rng.integers(2, 12))):
            voxel = tuple(np.round(np.array(shot.index) + sign * step * direction).astype(int))
            if any(not 0 <= v < n for v, n in zip(voxel, truth.shape)) or truth[voxel] != value:
                break
            painted[voxel] = True
    return painted
