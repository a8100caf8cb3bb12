"""A model that was never trained, small enough for any test."""

import torch

from slem_app.network import EditorConfig, EditorNetwork, Segmenter, SegmenterConfig, build
from slem_app.regions import PostProcess
from slem_app.volumes.prepare import Preparation
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, Card, EditorCard, EditorModel

SMALL = SegmenterConfig(
    channels=(4, 6), blocks=(1, 1), stem_channels=4, context_levels=(1,), deep_supervision=0
)


def small_card(spacing: float = 4.0, **changes: object) -> Card:
    """A brain model's card; `spacing` in mm along each axis, `changes` of the card's fields."""
    fields = {
        "name": "small",
        "version": "1",
        "description": "",
        "sequences": BRAIN_SEQUENCES,
        "reference_order": ("t1c", "t2f", "t2w", "t1n"),
        "network": SMALL,
        "preparation": Preparation(spacing=(spacing,) * 3, multiple=8),
        "labels": BRAIN_LABELS,
        "postprocess": PostProcess(),
    }
    return Card(**{**fields, **changes})


def noisy(config: SegmenterConfig = SMALL, seed: int = 0) -> Segmenter:
    """A network whose result depends on the voxels, unlike a fresh one's; with the threshold at its prior its
    labels are noise, and many.
    """
    torch.manual_seed(seed)
    network = build(config)
    with torch.no_grad():
        network.head.weight.normal_(std=0.5)
    return network


SMALL_EDITOR = EditorConfig(4, ((1, 0),), BRAIN_LABELS.names, (4, 8))


def editor_card(spacing: float = 1.0, **changes: object) -> EditorCard:
    """An editor's card; `spacing` in mm, `changes` of the card's fields."""
    fields = {
        "name": "small_editor",
        "version": "1",
        "description": "",
        "sequences": BRAIN_SEQUENCES,
        "network": SMALL_EDITOR,
        "spacing": spacing,
        "view": 16,
    }
    return EditorCard(**{**fields, **changes})


def noisy_editor(spacing: float = 1.0, bias: float = 0.0, seed: int = 0, **changes: object) -> EditorModel:
    """An editor whose answers depend on all that it sees; `bias` in log-odds: how ready it is to change."""
    torch.manual_seed(seed)
    network = EditorNetwork(SMALL_EDITOR)
    with torch.no_grad():
        network.head.weight.normal_(std=0.5)
        network.bias.fill_(bias)
    return EditorModel(editor_card(spacing, **changes), network.eval().requires_grad_(False))
