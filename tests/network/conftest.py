"""One thread, and a network small enough for it."""

from collections.abc import Iterator

import pytest
import torch

from slem_app.network import SegmenterConfig


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small():
    """Settings of a network of three levels, changed as told."""

    def config(**changes) -> SegmenterConfig:
        settings = {
            "channels": (8, 12, 16),
            "stem_channels": 4,
            "blocks": (1, 1, 1),
            "context_levels": (2,),
            "deep_supervision": 1,
        }
        return SegmenterConfig(**{**settings, **changes})

    return config
