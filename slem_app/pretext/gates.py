"""Gates that a collage must pass before a long training: what can be told without looking at anatomy.

A linear classifier sees each block as the histogram of its tissue, without any place, and names its sequence;
the class follows as in the network's head. If it is far above chance, the network will learn intensity ranges
instead of anatomy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from slem_app.pretext.samples import HELD_OUT
from slem_app.pretext.tasks.slem import Slem, collage
from slem_app.pretext.views import HeadViewSettings, make_view
from slem_app.volumes.cache import CaseCache

__all__ = ["HistogramProbe", "histogram_probe"]

BINS = np.linspace(-3, 3, 33)


@dataclass(frozen=True)
class HistogramProbe:
    """What intensity histograms give away, on held-out cases."""

    accuracy: float
    """Share of collages whose class is named rightly."""
    blocks: float
    """Share of blocks whose sequence is."""
    chance: float
    """One over the number of classes."""


def histogram_probe(
    cache: CaseCache,
    train: Sequence[str],
    held_out: Sequence[str],
    task: Slem,
    view: HeadViewSettings,
    samples: int = 320,
    measured: int = 160,
    seed: int = 0,
) -> HistogramProbe:
    """Train the linear classifier on some cases and measure it on others.

    Args:
        cache: prepared cases, each with all sequences.
        train: cases to learn from.
        held_out: cases to measure on.
        task: the collage, with its guards.
        view: how heads are looked at.
        samples: collages to learn from.
        measured: collages to measure on.
        seed: of all of them.
    """
    features, names, words_, present = _draw(cache, train, task, view, samples, seed)
    mean, sd = features.mean(dim=(0, 1)), features.std(dim=(0, 1)) + 1e-6
    layer = torch.nn.Linear(features.shape[2], int(names.max()) + 1)
    torch.nn.init.zeros_(layer.weight)
    optimizer = torch.optim.LBFGS(layer.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (
            F.cross_entropy(layer((features - mean) / sd).flatten(0, 1), names.flatten())
            + 1e-3 * layer.weight.square().sum()
        )
        loss.backward()
        return loss

    optimizer.step(closure)
    features, _, words_, present = _draw(cache, held_out, task, view, measured, seed + HELD_OUT)
    with torch.no_grad():
        figures = task.metrics(
            {"blocks": layer((features - mean) / sd)}, {"word": words_, "present": present}
        )
    return HistogramProbe(*(float(figures[name].mean()) for name in ("score", "blocks", "chance")))


def _draw(
    cache: CaseCache, ids: Sequence[str], task: Slem, view: HeadViewSettings, count: int, seed: int
) -> tuple[torch.Tensor, ...]:
    """Histograms (n, B, bins), and the words twice: as names of sequences to learn, and as targets with their
    presence.
    """
    features, words_, present = [], [], []
    for n in range(count):
        rng = np.random.default_rng([seed, n])
        seen = make_view(cache.load(ids[n % len(ids)]), None, rng, view)
        made = collage(seen, rng, task)
        blocks = [made.image[made.cells == b] for b in range(1, task.blocks + 1)]
        features.append(
            [np.histogram(np.clip(values, -3, 3), BINS)[0] / max(1, len(values)) for values in blocks]
        )
        words_.append(made.word)
        present.append(seen.present)
    named = torch.from_numpy(np.stack(words_))
    return (
        torch.tensor(np.array(features), dtype=torch.float32),
        named,
        named,
        torch.from_numpy(np.stack(present)),
    )
