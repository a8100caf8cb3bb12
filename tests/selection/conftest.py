"""A small network and a phantom as it sees it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from slem_app import phantom
from slem_app.network import SegmenterConfig, build
from slem_app.predict import Predictor
from slem_app.regions import PostProcess
from slem_app.volumes.prepare import Preparation, Prepared, Volume, prepare
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, Card, Model


@pytest.fixture(scope="session")
def prepared() -> Prepared:
    head = phantom.make(seed=1, shape=(40, 48, 40), spacing=(4.0, 4.0, 4.0))
    volumes = {name: Volume(image.astype(np.float32), head.grids[name]) for name, image in head.images.items()}
    return prepare(volumes, BRAIN_SEQUENCES, Preparation(spacing=(4.0, 4.0, 4.0), multiple=8))


def predictor_of(seed: int, threshold: float = 0.02) -> Predictor:
    config = SegmenterConfig(channels=(4, 6), blocks=(1, 1), stem_channels=4, context_levels=(1,), deep_supervision=0)
    torch.manual_seed(seed)
    network = build(config)
    with torch.no_grad():
        network.head.weight.normal_(std=0.5)
    card = Card(
        name="small",
        version="1",
        description="",
        sequences=BRAIN_SEQUENCES,
        reference_order=("t1c",),
        network=config,
        preparation=Preparation(spacing=(4.0, 4.0, 4.0), multiple=8),
        labels=BRAIN_LABELS,
        postprocess=PostProcess(threshold=threshold),
    )
    return Predictor(Model(card, network.eval().requires_grad_(False), None))


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """Finds noise."""
    return predictor_of(0)


@pytest.fixture(scope="session")
def later() -> Predictor:
    """Finds other noise."""
    return predictor_of(1)


@pytest.fixture(scope="session")
def blind(predictor: Predictor) -> Predictor:
    """The first one, finding nothing."""
    card = replace(predictor.card, postprocess=PostProcess(threshold=0.9999))
    return Predictor(Model(card, predictor.network, None))
