"""Models on disk: the card that says what they are, and the weights that it names.

Most names below are imported when they are first asked for, so that `folders`, which finds a model by its
name, does not wait for torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from slem_app.weights.folders import find, model_folder, model_names

if TYPE_CHECKING:
    from slem_app.weights.card import (
        BRAIN_LABELS,
        BRAIN_SEQUENCES,
        Card,
        Confidence,
        Inference,
        Plausible,
        Recalibration,
        card_text,
        load_card,
    )
    from slem_app.weights.editor import EditorCard, EditorModel, load_editor, save_editor
    from slem_app.weights.store import Model, load_model, save_model
    from slem_app.weights.transfer import (
        EncoderCard,
        Pretrained,
        Transfer,
        load_parent,
        load_pretrained,
        save_pretrained,
    )

__all__ = [
    "BRAIN_LABELS",
    "BRAIN_SEQUENCES",
    "Card",
    "Confidence",
    "EditorCard",
    "EditorModel",
    "EncoderCard",
    "Inference",
    "Model",
    "Plausible",
    "Pretrained",
    "Recalibration",
    "Transfer",
    "card_text",
    "find",
    "load_card",
    "load_editor",
    "load_model",
    "load_parent",
    "load_pretrained",
    "model_folder",
    "model_names",
    "save_editor",
    "save_model",
    "save_pretrained",
]

HOMES = {
    "card": (
        "BRAIN_LABELS",
        "BRAIN_SEQUENCES",
        "Card",
        "Inference",
        "Confidence",
        "Plausible",
        "Recalibration",
        "card_text",
        "load_card",
    ),
    "editor": ("EditorCard", "EditorModel", "load_editor", "save_editor"),
    "store": ("Model", "load_model", "save_model"),
    "transfer": (
        "EncoderCard",
        "Pretrained",
        "Transfer",
        "load_parent",
        "load_pretrained",
        "save_pretrained",
    ),
}
MODULES = {name: module for module, names in HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{MODULES[name]}"), name)
