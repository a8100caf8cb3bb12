"""Six small phantom cases in a cache, and a recipe with a network that trains in seconds."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from slem_app import phantom
from slem_app.phantom import Phantom
from slem_app.pretext.recipe import PretextRecipe, load_recipe
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.prepare import Preparation, Volume, prepare
from slem_app.weights import BRAIN_SEQUENCES

PREPARATION = Preparation(spacing=(4.0, 4.0, 4.0), multiple=8, margin=0.0)
NETWORK = {
    "channels": [8, 16],
    "blocks": [1, 1],
    "stem_channels": 8,
    "context_levels": [1],
    "context_dilations": [1, 2],
    "deep_supervision": 0,
}


def prepared(case: Phantom, without: tuple[str, ...] = ()):
    volumes = {
        name: Volume(image, case.grids[name]) for name, image in case.images.items() if name not in without
    }
    return prepare(volumes, BRAIN_SEQUENCES, PREPARATION)


@pytest.fixture(scope="session")
def phantoms() -> list[Phantom]:
    return [phantom.make(seed=seed, shape=(36, 40, 36), spacing=(4.0, 4.0, 4.0)) for seed in range(6)]


@pytest.fixture
def cache(phantoms: list[Phantom], tmp_path: Path) -> CaseCache:
    cache = CaseCache(tmp_path / "cache")
    for number, case in enumerate(phantoms):
        cache.add(f"case{number}", prepared(case), None, "k")
    return cache


@pytest.fixture
def recipe() -> Callable[..., PretextRecipe]:
    def make(name: str = "slem", **changes: object) -> PretextRecipe:
        settings = {
            "steps": 4,
            "batch": 2,
            "precision": "float32",
            "measured": 4,
            "save_every": 2,
            "view": {"shape": [32, 32, 32], "spatial": 0.0},
        } | changes
        network = NETWORK | settings.pop("network", {})
        return load_recipe(
            name,
            network=network,
            preparation={"spacing": [4.0, 4.0, 4.0], "multiple": 8, "margin": 0.0},
            **settings,
        )

    return make


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
