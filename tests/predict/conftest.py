"""Models for the predictor: a fresh small one, and one that finds the phantom's tumour by its intensities."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from slem_app.phantom import Phantom, make
from slem_app.weights import Card, Inference, Model
from tests.untrained import noisy, noisy_editor, small_card


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


@pytest.fixture(scope="module")
def case() -> Phantom:
    return make(seed=3, shape=(64, 72, 56), spacing=(2.0, 2.0, 2.0))


@pytest.fixture
def edited(thresholds: Model) -> Model:
    """One that is nearly right, with an editor that answers anything at all."""
    return replace(thresholds, editor=noisy_editor(spacing=2.0))


@pytest.fixture(params=["thresholds", "fresh", "edited"])
def model(request: pytest.FixtureRequest) -> Model:
    """One that is nearly right, one that is nonsense, one with an editor."""
    return request.getfixturevalue(request.param)
