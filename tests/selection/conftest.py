"""A small network and a phantom as it sees it."""

from dataclasses import replace

import numpy as np
import pytest

from slem_app import phantom
from slem_app.predict import Predictor
from slem_app.regions import PostProcess
from slem_app.volumes.prepare import Preparation, Prepared, Volume, prepare
from slem_app.weights import BRAIN_SEQUENCES, Model
from tests.untrained import noisy, small_card


@pytest.fixture(scope="session")
def prepared() -> Prepared:
    head = phantom.make(seed=1, shape=(40, 48, 40), spacing=(4.0, 4.0, 4.0))
    volumes = {
        name: Volume(image.astype(np.float32), head.grids[name]) for name, image in head.images.items()
    }
    return prepare(volumes, BRAIN_SEQUENCES, Preparation(spacing=(4.0, 4.0, 4.0), multiple=8))


def predictor_of(seed: int, threshold: float = 0.02) -> Predictor:
    card = small_card(reference_order=("t1c",), postprocess=PostProcess(threshold=threshold))
    return Predictor(Model(card, noisy(seed=seed).eval().requires_grad_(False), None))


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
