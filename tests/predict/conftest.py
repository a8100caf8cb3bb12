"""Models for the predictor: a fresh small one, and one that finds the phantom's tumour by its intensities."""

import pytest
import torch
from torch import nn

from slem_app.network import SegmenterConfig, build
from slem_app.regions import PostProcess
from slem_app.volumes.prepare import Preparation
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, Card, Inference, Model


class Thresholds(nn.Module):
    """Stands in for a trained network: bright on FLAIR is tumour, bright on contrast-enhanced T1 therein is its core, brighter enhancing."""

    def __init__(self) -> None:
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(8.0))

    def forward(self, images: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        flair, contrast = images[:, 3], images[:, 1]
        return self.steepness * torch.stack([flair - 1.5, contrast - 1.0, contrast - 2.0], dim=1)


@pytest.fixture
def card() -> Card:
    return Card(
        name="small",
        version="1",
        description="",
        sequences=BRAIN_SEQUENCES,
        reference_order=("t1c", "t2f", "t2w", "t1n"),
        network=SegmenterConfig(channels=(4, 6), blocks=(1, 1), stem_channels=4, context_levels=(1,), deep_supervision=0),
        preparation=Preparation(spacing=(2.0, 2.0, 2.0), multiple=8),
        labels=BRAIN_LABELS,
        postprocess=PostProcess(),
        inference=Inference(window=(16, 24, 16)),
    )


@pytest.fixture
def fresh(card: Card, tmp_path) -> Model:
    torch.manual_seed(0)
    network = build(card.network)
    with torch.no_grad():
        network.head.weight.normal_(std=0.5)  # so that the result depends on the voxels
    return Model(card, network.eval(), tmp_path)


@pytest.fixture
def thresholds(card: Card, tmp_path) -> Model:
    return Model(card, Thresholds(), tmp_path)
