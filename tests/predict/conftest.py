"""Models for the predictor: a fresh small one, and one that finds the phantom's tumour by its intensities."""

import pytest
import torch
from torch import nn

from slem_app.weights import Card, Inference, Model
from tests.untrained import noisy, small_card


class Thresholds(nn.Module):
    """Stands in for a trained network: bright on FLAIR is tumour, bright on contrast-enhanced T1 therein is
    its core, brighter enhancing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steepness = nn.Parameter(torch.tensor(8.0))

    def forward(self, images: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
        flair, contrast = images[:, 3], images[:, 1]
        return self.steepness * torch.stack([flair - 1.5, contrast - 1.0, contrast - 2.0], dim=1)


@pytest.fixture
def card() -> Card:
    return small_card(2.0, inference=Inference(window=(16, 24, 16)))


@pytest.fixture
def fresh(card: Card, tmp_path) -> Model:
    return Model(card, noisy(card.network).eval(), tmp_path)


@pytest.fixture
def thresholds(card: Card, tmp_path) -> Model:
    return Model(card, Thresholds(), tmp_path)
