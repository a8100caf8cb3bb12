"""A model that was never trained, for measurements of the server and not of the network: its labels are
noise, and made in milliseconds.
"""

from __future__ import annotations

from pathlib import Path

import torch

from slem_app.network import SegmenterConfig, build
from slem_app.regions import PostProcess
from slem_app.volumes.prepare import Preparation
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, Card, save_model

__all__ = ["SHAPE", "SPACING", "options", "untrained"]

SHAPE = (64, 72, 56)  # voxels of a series
SPACING = (2.5, 2.5, 2.5)  # mm


def options(folder: Path) -> list[str]:
    """Write the model `slem_brain`, which follows clicks, into a folder; the server's settings with which it
    is served.
    """
    untrained(folder / "slem_brain", "slem_brain", 3.0, 8)
    return ["--conf", "models_dir", str(folder), "--conf", "models", "slem_brain,slem_brain_clicks"]


def untrained(folder: Path, name: str, spacing: float, multiple: int, prior: float = 0.02) -> None:
    """Write a small model whose results depend on the voxels, but mean nothing.

    Args:
        folder: of the model.
        name: on its card.
        spacing: mm of its voxels along each axis.
        multiple: of which its grid's sizes are.
        prior: the probability around which its results lie, and its threshold.
    """
    config = SegmenterConfig(
        channels=(4, 6),
        blocks=(1, 1),
        stem_channels=4,
        context_levels=(1,),
        deep_supervision=0,
        prior=prior,
    )
    card = Card(
        name=name,
        version="tiny",
        description="untrained",
        sequences=BRAIN_SEQUENCES,
        reference_order=("t1c", "t2f", "t2w", "t1n"),
        network=config,
        preparation=Preparation(spacing=(spacing,) * 3, multiple=multiple),
        labels=BRAIN_LABELS,
        postprocess=PostProcess(threshold=prior),
    )
    torch.manual_seed(0)
    network = build(config)
    with torch.no_grad():
        network.head.weight.normal_(std=0.5)  # else the result is the same whatever the voxels
    save_model(folder, card, network)
