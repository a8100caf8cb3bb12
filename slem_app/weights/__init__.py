"""Models on disk: the card that says what they are, and the weights that it names."""

from slem_app.weights.card import BRAIN_LABELS, BRAIN_SEQUENCES, Card, Inference, card_text, load_card
from slem_app.weights.editor import EditorCard, EditorModel, load_editor, save_editor
from slem_app.weights.store import Model, find, load_model, model_names, save_model
from slem_app.weights.transfer import (
    EncoderCard,
    Pretrained,
    Transfer,
    load_parent,
    load_pretrained,
    save_pretrained,
    transfer,
)

__all__ = [
    "BRAIN_LABELS",
    "BRAIN_SEQUENCES",
    "Card",
    "EditorCard",
    "EditorModel",
    "EncoderCard",
    "Inference",
    "Model",
    "Pretrained",
    "Transfer",
    "card_text",
    "find",
    "load_card",
    "load_editor",
    "load_model",
    "load_parent",
    "load_pretrained",
    "model_names",
    "save_editor",
    "save_model",
    "save_pretrained",
    "transfer",
]
