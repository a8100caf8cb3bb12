"""What the editor learns from: the correction that was asked for, and what was right and is changed.

A session is some prompts on one view. All but the last are answered by the network as it is, without
gradient, as serving would; so it learns from label maps that it has made itself, and that the same label
pointed at again means more. Only voxels that do not show the prompt's label count: nothing else can change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from slem_app.finetune.editing.errors import aim_at
from slem_app.finetune.editing.samples import EditingSample
from slem_app.finetune.editing.settings import EditorSettings
from slem_app.labels import LabelSet
from slem_app.network import EditorNetwork
from slem_app.predict import best_precision
from slem_app.predict.editing import Pointed, ShownView, channels, copied, follow, squared_steps
from slem_app.regions import margins

__all__ = ["CorrectionLosses", "correction_loss"]

STREAM = 9002
THREADS = 8  # samples that are made ready side by side

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class _Turn:
    """One prompt of a session, before it is answered."""

    sight: ShownView
    wanted: np.ndarray
    odds: np.ndarray | None
    """(R, I, J, K) logits."""
    names: tuple[str, ...]
    free: bool
    newest: Pointed
    older: tuple[Pointed, ...]
    piece: np.ndarray


class CorrectionLosses(nn.Module):
    """Network and loss as one module: a batch of samples -> (N,).

    Args:
        network: the editor.
        labels: of the model whose results are corrected.
        settings: of the run.
    """

    def __init__(self, network: EditorNetwork, labels: LabelSet, settings: EditorSettings) -> None:
        super().__init__()
        self.network, self.labels, self.settings = network, labels, settings

    def forward(self, batch: EditingSample) -> torch.Tensor:
        batch = EditingSample(*batch)
        numbers = batch.number.tolist()
        seeds = [self.settings.seed, STREAM, numbers[0] // self.settings.batch]
        rng = np.random.default_rng(seeds)
        clicks = 1 + int(rng.choice(len(self.settings.clicks), p=self.settings.clicks))
        turns = list(self._each(self._first, [batch] * len(numbers), range(len(numbers))))
        device = batch.images.device
        for click in range(1, clicks):
            with torch.no_grad():
                answers = self._answers(turns, device).cpu().numpy()
            streams = [np.random.default_rng([*seeds, click, number]) for number in numbers]
            turns = list(self._each(self._next, turns, answers, streams))
        logits = self._answers(turns, device)
        return torch.stack(
            [
                correction_loss(answer, _target(turn, device), self.settings.overshoot)
                for answer, turn in zip(logits, turns, strict=True)
            ]
        )

    def _each(self, work: Callable[..., T], *arguments: Iterable[object]) -> Iterator[T]:
        """`work` for each sample, side by side beside a GPU: there the processor is what one waits for."""
        if not self.network.bias.is_cuda:
            yield from map(work, *arguments)
            return
        with ThreadPoolExecutor(max_workers=THREADS) as pool:
            yield from pool.map(work, *arguments)

    def _first(self, batch: EditingSample, n: int) -> _Turn:
        one = {name: tensor[n].cpu().numpy() for name, tensor in batch._asdict().items()}
        return _Turn(
            ShownView(one["images"], one["present"], one["shown"], float(one["spacing"])),
            one["wanted"],
            one["logits"] if one["known"] else None,
            ("", *self.labels.names) if one["named"] else (),
            bool(one["free"]),
            Pointed(np.argwhere(one["newest"]), int(one["value"])),
            tuple(Pointed(row[None, :3], int(row[3])) for row in one["earlier"] if row[3] >= 0),
            one["piece"],
        )

    def _answers(self, turns: Sequence[_Turn], device: torch.device) -> torch.Tensor:
        """(N, I, J, K) logits."""
        inputs = list(self._each(self._seen, turns))
        seen, told = (copied(arrays).to(device) for arrays in zip(*inputs, strict=True))
        seen = seen.contiguous(memory_format=torch.channels_last_3d)
        with torch.autocast(device.type, torch.bfloat16, enabled=best_precision(device) == "bfloat16"):
            return self.network(seen, told)

    def _seen(self, turn: _Turn) -> tuple[np.ndarray, np.ndarray]:
        odds = self._odds(turn)
        return channels(self.network.config, turn.sight, turn.newest, turn.older, odds, turn.names)

    def _odds(self, turn: _Turn) -> np.ndarray | None:
        if turn.odds is None:
            return None
        here = turn.sight.shown[tuple(turn.newest.voxels[0])]
        names = ("", *self.labels.names)
        return np.stack(
            [
                margins(turn.odds, self.labels, names[value]).min(axis=0)
                for value in (turn.newest.value, int(here))
            ]
        )

    def _next(self, turn: _Turn, answer: np.ndarray, rng: np.random.Generator) -> _Turn:
        """The session after the network's answer: the reader points again, or says the same once more where
        nothing is wrong any longer.
        """
        shown, newest = turn.sight.shown.copy(), turn.newest
        held = np.zeros(shown.shape, dtype=bool)
        for one in turn.older:
            held[tuple(one.voxels.T)] |= one.value != newest.value
        wants = (answer > 0) & turn.sight.images.any(axis=0)
        square = squared_steps(shown.shape, newest)
        shown[follow(wants, shown == newest.value, square, held, newest.voxels)] = newest.value
        aim = aim_at(shown, turn.wanted, rng)
        if aim is None:
            return turn
        return replace(
            turn,
            sight=replace(turn.sight, shown=shown),
            newest=Pointed(np.array([aim.voxel]), aim.value),
            older=(*turn.older, turn.newest),
            piece=aim.piece,
        )


@dataclass(frozen=True, eq=False)
class PromptTarget:
    """What a prompt asks for; all (I, J, K) float32."""

    asked: torch.Tensor
    """1 in the piece of error that it points at."""
    right: torch.Tensor
    """1 where its label is wanted."""
    harm: torch.Tensor
    """1 where what is shown is right, so that the prompt's label would be wrong."""
    counted: torch.Tensor
    """1 where a change is possible, less where what is wanted could not be known."""
    near: torch.Tensor
    """1 at the prompt, falling to 0 within some 15 voxels."""


def _target(turn: _Turn, device: torch.device) -> PromptTarget:
    shown, value = turn.sight.shown, turn.newest.value
    right, change = turn.wanted == value, shown != value
    unknown = turn.free & (shown != turn.wanted) & ~turn.piece
    counted = np.where(unknown, 0.02, 1.0) * change
    near = np.exp(-squared_steps(shown.shape, turn.newest) / 200)
    arrays = (turn.piece & change, right, change & ~right & (shown == turn.wanted), counted, near)
    return PromptTarget(*(torch.from_numpy(a.astype(np.float32)).to(device) for a in arrays))


def correction_loss(logits: torch.Tensor, target: PromptTarget, overshoot: float) -> torch.Tensor:
    """() loss of (I, J, K) logits.

    The Dice of the requested correction alone, a weighted cross-entropy, and the harm in pieces of the size
    of the error. Other errors that the same label would mend are no fault in the first and third.
    """
    probability = logits.sigmoid() * (target.counted > 0)
    mended = (probability * target.asked).sum()
    wrong = probability * (1 - target.right) * target.counted
    size = target.asked.sum()
    dice = 1 - (2 * mended + 10) / (mended + wrong.sum() + size + 10)
    weight = target.counted * (0.4 + 2 * target.near + 3 * target.asked + 0.5 * target.harm)
    each = F.binary_cross_entropy_with_logits(logits, target.right, reduction="none")
    entropy = (weight * each).sum() / weight.sum().clamp(min=1.0)
    harm = torch.log1p((wrong * target.harm).sum() / (size + 50))
    return dice + 0.7 * entropy + overshoot * harm
