"""Two phantoms in a training cache, a network of some thousand weights, one thread."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Subset

from slem_app.finetune.patches import Patches, Varied
from slem_app.finetune.settings import AugmentSettings, FinetuneSettings
from slem_app.network import Segmenter, SegmenterConfig, build
from slem_app.phantom import Phantom, make
from slem_app.volumes.cache import CaseCache
from slem_app.volumes.geometry import resample
from slem_app.volumes.prepare import Preparation, Volume, prepare
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES

TINY = SegmenterConfig(
    channels=(8, 16), stem_channels=8, blocks=(1, 1), context_levels=(1,), deep_supervision=0
)
COARSE = Preparation(spacing=(4.0, 4.0, 4.0), multiple=8)
PLAIN = AugmentSettings(flip=0, spatial=0, gain=0, shift=0, gamma=0, noise=0, blur=0, keep_sequence=1)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def fresh(config: SegmenterConfig = TINY) -> Segmenter:
    """An untrained network, the same at every call."""
    torch.manual_seed(0)
    return build(config)


def add(cache: CaseCache, name: str, case: Phantom) -> None:
    prepared = prepare({n: Volume(i, case.grids[n]) for n, i in case.images.items()}, BRAIN_SEQUENCES, COARSE)
    masks = BRAIN_LABELS.region_masks(case.labels)
    cache.add(
        name,
        prepared,
        np.stack([resample(m.astype(np.float32), case.grid, prepared.grid, 1) for m in masks]),
        "test",
    )


@pytest.fixture(scope="session")
def phantoms() -> list[Phantom]:
    return [make(seed, (44, 52, 38), (4.0, 4.0, 4.0)) for seed in (1, 2)]


@pytest.fixture(scope="session")
def cache(tmp_path_factory, phantoms) -> CaseCache:
    made = CaseCache(tmp_path_factory.mktemp("cache"))
    for n, case in enumerate(phantoms):
        add(made, f"case{n}", case)
    return made


@pytest.fixture
def settings():
    """Quick settings, changed as told."""

    def quick(**changes) -> FinetuneSettings:
        return FinetuneSettings(
            **{"steps": 4, "batch": 2, "patch": (16, 16, 16), "save_every": 2, "rate": 5e-3, **changes}
        )

    return quick


def varied(patches: Patches, *numbers: int) -> tuple[torch.Tensor, ...]:
    """A batch as the losses get it: images, present, regions, numbers."""
    return Varied(patches, torch.nn.Identity()).vary(
        next(iter(DataLoader(Subset(patches, numbers), batch_size=len(numbers))))
    )


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "checkpoint.pt", weights_only=True)


def assert_same(one: object, other: object) -> None:
    """Bit for bit, however deep."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other):
            assert_same(a, b)
    else:
        assert one == other
