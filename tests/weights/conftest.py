"""A small model, as a card and a network."""

import pytest
import torch

from slem_app.network import Segmenter, SegmenterConfig, build
from slem_app.regions import PostProcess
from slem_app.volumes.prepare import Preparation
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, Card, Inference


@pytest.fixture
def card() -> Card:
    return Card(
        name="small",
        version="3",
        description="A test's model: 'quotes', ü and a colon.",
        sequences=BRAIN_SEQUENCES,
        reference_order=("t1c", "t2f"),
        network=SegmenterConfig(
            channels=(4, 6), blocks=(1, 1), stem_channels=4, context_levels=(1,), deep_supervision=0
        ),
        preparation=Preparation(spacing=(2.0, 2.0, 1.0 / 3.0), multiple=8),
        labels=BRAIN_LABELS,
        postprocess=PostProcess(smallest={"WT": 50.0}, region_minimum={"ET": 0.1}),
        inference=Inference(window=(16, 16, 16), mirror=(0,)),
        data="phantoms",
        figures={"dice WT": 0.1 + 0.2, "tiny": 1e-05},
    )


@pytest.fixture
def network(card: Card) -> Segmenter:
    torch.manual_seed(0)
    return build(card.network)
