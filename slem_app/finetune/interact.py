"""Training for interaction: a simulated reader inside the loop. Opt-in by `InteractSettings.share`; zero
leaves training as it was.

A step is either automatic (whole patches, no prompts) or interactive, decided by its number. An interactive
step is what serving does: an automatic pass over the patch without gradient gives the features before prompts
and the first segmentation; a reader clicks into its errors; small views around some of the clicks are seen
again with the prompts and the segmentation so far, and only that pass has a gradient. So it costs about as
much as an automatic step, and stem and fusion learn from automatic steps alone. All that is random comes from
the sample's number: a resumed run draws what an unbroken one would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from slem_app.errors import BadSetting
from slem_app.finetune.losses import deep_loss
from slem_app.finetune.settings import FinetuneSettings
from slem_app.labels import LabelSet
from slem_app.network import Segmenter
from slem_app.predict import best_precision
from slem_app.prompts import (
    Box,
    Click,
    Prompts,
    ReaderSettings,
    Scribble,
    SimulatedClick,
    SimulatedReader,
    channel_count,
    encode,
)
from slem_app.regions import PostProcess, decide
from slem_app.types import Grid, triple

__all__ = ["InteractiveLosses"]

STREAM = 7919  # keeps these random numbers apart from those of the patches


class InteractiveLosses(nn.Module):
    """Network and loss as one module: a batch of varied patches -> (1,).

    Args:
        network: with the prompt channels of `labels`.
        labels: the model's.
        spacing: (3,) mm of the patches' voxels.
        settings: of the run.

    Raises:
        BadSetting: a network without prompt channels, or views that it or the patch cannot hold.
    """

    def __init__(
        self,
        network: Segmenter,
        labels: LabelSet,
        spacing: Sequence[float] | np.ndarray,
        settings: FinetuneSettings,
    ) -> None:
        super().__init__()
        self.network = network
        self.labels = labels
        self.spacing = np.asarray(spacing, dtype=np.float64)
        self.settings = settings
        views, config = settings.interact.views, network.config
        if config.prompts != channel_count(labels):
            raise BadSetting(
                f"training for interaction: the card's network.prompts must be {channel_count(labels)} for "
                f"these labels, it is {config.prompts}"
            )
        if any(v % config.multiple or v > min(settings.patch) for v in views):
            raise BadSetting(
                f"interact.views {views}: each must be a multiple of {config.multiple} voxels and fit the "
                f"patch {settings.patch}"
            )
        self.reader = SimulatedReader(
            labels, ReaderSettings(jitter=settings.interact.jitter, wrong=settings.interact.wrong)
        )

    def forward(self, batch: Sequence[torch.Tensor]) -> torch.Tensor:
        images, present, regions, numbers = batch
        step = int(numbers[0]) // self.settings.batch
        rng = np.random.default_rng([self.settings.seed, STREAM, step])  # the same in every process
        if rng.random() >= self.settings.interact.share:
            with self._autocast(images):
                outputs = self.network.deep(images, present)
            return deep_loss(outputs, regions, self.settings.deep_weights)[None]
        with torch.no_grad(), self._autocast(images):
            fused = self.network.fuse(images, present)
            seen = self.network.deep_fused(fused)[0].float().sigmoid()
        side = int(rng.choice(self.settings.interact.views))
        looks = [
            look
            for i, n in enumerate(numbers.tolist())
            for look in self._looks(n, fused[i : i + 1], seen[i], regions[i], side)
        ]
        looks = self._seen_again(looks)
        with self._autocast(images):
            outputs = self.network.deep_fused(
                torch.cat([look.fused for look in looks]), self._channels(looks)
            )
        target = torch.stack([look.regions for look in looks])
        near = torch.from_numpy(np.stack([self._near(look) for look in looks])).to(images.device)
        return (
            deep_loss(outputs, target, self.settings.deep_weights)
            + self.settings.interact.near * _near_loss(outputs[0], target, near)
        )[None]

    def _autocast(self, images: torch.Tensor) -> torch.autocast:
        return torch.autocast(
            images.device.type, torch.bfloat16, enabled=best_precision(images.device) == "bfloat16"
        )

    def _looks(
        self, number: int, fused: torch.Tensor, seen: torch.Tensor, regions: torch.Tensor, side: int
    ) -> list[_Look]:
        """What one sample's reader looks at and says: several views of one patch, each with some of the
        clicks into its errors.
        """
        settings = self.settings.interact
        rng = np.random.default_rng([self.settings.seed, STREAM + 1, number])
        truth = self._decided(regions)
        shown = np.zeros_like(truth) if rng.random() < settings.blank else self._decided(seen)
        shots = list(self.reader.shots(truth, shown, self.spacing, rng, settings.clicks))
        looks: list[_Look] = []
        for _ in range(settings.looks):
            rng = np.random.default_rng([self.settings.seed, STREAM + 2 + len(looks), number])
            middle = (
                np.array(shots[int(rng.integers(len(shots)))].index)
                if shots
                else rng.integers(0, truth.shape)
            )
            start = self._corner(rng, middle, truth.shape, side)
            share = rng.random()  # between hardly any of the clicks and all of them
            here = [
                shot.seen_from(tuple(start))
                for shot in shots
                if (np.array(shot.index) == middle).all() or rng.random() < share
            ]
            here = [shot for shot in here if all(0 <= v < side for v in shot.index)]
            looks.append(self._look(rng, here, start, side, fused, truth, shown, regions))
        return looks

    def _look(
        self,
        rng: np.random.Generator,
        shots: Sequence[SimulatedClick],
        start: np.ndarray,
        side: int,
        fused: torch.Tensor,
        truth: np.ndarray,
        shown: np.ndarray,
        regions: torch.Tensor,
    ) -> _Look:
        box, s = tuple(slice(int(v), int(v + side)) for v in start), self.network.config.stem_stride
        part = tuple(slice(b.start // s, b.stop // s) for b in box)
        truth, shown = np.ascontiguousarray(truth[box]), np.ascontiguousarray(shown[box])
        grid = Grid(triple(truth.shape), np.diag([*self.spacing, 1.0]))
        prompts = self._told(rng, shots, truth, grid)
        if rng.random() < self.settings.interact.box and truth.any():
            prompts = _boxed(rng, prompts, truth, grid)
        return _Look(
            rng,
            grid,
            fused[(slice(None), slice(None), *part)],
            regions[(slice(None), *box)],
            truth,
            shown,
            prompts,
        )

    def _decided(self, probabilities: torch.Tensor) -> np.ndarray:
        return decide(probabilities.cpu().numpy(), self.labels, PostProcess(), 1.0)

    def _corner(
        self, rng: np.random.Generator, middle: np.ndarray, shape: tuple[int, ...], side: int
    ) -> np.ndarray:
        """Corner of a view that holds `middle` off its faces; the network's first level has a voxel there."""
        start = middle - side // 2 + rng.integers(-(side // 5), side // 5 + 1, 3)
        stride = self.network.config.stem_stride
        return np.clip(start, 0, np.array(shape) - side) // stride * stride

    def _told(
        self, rng: np.random.Generator, shots: Sequence[SimulatedClick], truth: np.ndarray, grid: Grid
    ) -> Prompts:
        """Shots as prompts, some of them as scribbles."""
        entries = []
        for shot in shots:
            line = (
                _line(rng, shot, truth)
                if shot.right and rng.random() < self.settings.interact.scribbles
                else None
            )
            entries.append(
                Click.on(grid, shot.index, shot.label)
                if line is None
                else Scribble.of(shot.label, line, grid)
            )
        return Prompts(tuple(entries))

    def _channels(self, looks: Sequence[_Look]) -> torch.Tensor:
        """(n, P, i, j, k)."""
        return torch.from_numpy(
            np.stack([encode(look.prompts, look.grid, self.labels, look.shown) for look in looks])
        ).to(looks[0].fused.device)

    def _near(self, look: _Look) -> np.ndarray:
        """(i, j, k) weight, 1 at the prompts, falling to 0."""
        return encode(look.prompts, look.grid, self.labels, sigma=self.settings.interact.reach)[
            : len(self.labels.labels) + 1
        ].max(axis=0)

    def _seen_again(self, looks: Sequence[_Look]) -> list[_Look]:
        """Some looks go on: the network answers, changed near the prompts only as serving does it, and the
        reader clicks once more.
        """
        which = [
            n
            for n, look in enumerate(looks)
            if look.prompts.entries and look.rng.random() < self.settings.interact.again
        ]
        if not which:
            return list(looks)
        several = [looks[n] for n in which]
        with torch.no_grad(), self._autocast(several[0].fused):
            seen = (
                self.network.deep_fused(torch.cat([look.fused for look in several]), self._channels(several))[
                    0
                ]
                .float()
                .sigmoid()
            )
        after = list(looks)
        for n, look, probabilities in zip(which, several, seen):
            shown = np.where(self._near(look) > 0.1, self._decided(probabilities), look.shown)
            shots = self.reader.shots(look.truth, shown, self.spacing, look.rng, 1)
            more = [
                e
                for e in self._told(look.rng, shots, look.truth, look.grid).entries
                if look.prompts.box is None or look.prompts.box.allows(e)
            ]
            after[n] = replace(
                look, shown=shown, prompts=replace(look.prompts, entries=(*look.prompts.entries, *more))
            )
        return after


@dataclass(frozen=True, eq=False)
class _Look:
    """One view of one patch in an interactive step."""

    rng: np.random.Generator
    """What is random about it."""
    grid: Grid
    """Of its voxels."""
    fused: torch.Tensor
    """(1, C, i/s, j/s, k/s) features before prompts."""
    regions: torch.Tensor
    """(R, i, j, k) truth."""
    truth: np.ndarray
    """(i, j, k) the same as labels."""
    shown: np.ndarray
    """(i, j, k) labels that the reader sees."""
    prompts: Prompts
    """What the reader says."""


def _boxed(rng: np.random.Generator, prompts: Prompts, truth: np.ndarray, grid: Grid) -> Prompts:
    """With a loose box around the truth; prompts that err outside it are dropped."""
    index = np.argwhere(truth)
    low, high = index.min(axis=0) - rng.integers(0, 5, 3), index.max(axis=0) + rng.integers(0, 5, 3)
    box = Box.on(grid, low.tolist(), high.tolist())
    return Prompts(tuple(e for e in prompts.entries if box.allows(e)), box)


def _near_loss(logits: torch.Tensor, target: torch.Tensor, near: torch.Tensor) -> torch.Tensor:
    """Cross-entropy around the newest prompts: what a reader watches after a click."""
    each = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none").mean(dim=1)  # N i j k
    return (each * near).sum() / near.sum().clamp(min=1.0)


def _line(rng: np.random.Generator, shot: SimulatedClick, truth: np.ndarray) -> np.ndarray:
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
