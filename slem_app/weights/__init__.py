"""Models on disk: the card that says what they are, and the weights that it names."""

from slem_app.weights.card import BRAIN_LABELS, BRAIN_SEQUENCES, Card, Inference, card_text, load_card
from slem_app.weights.store import Model, find, load_model, model_names, save_model

__all__ = ["BRAIN_LABELS", "BRAIN_SEQUENCES", "Card", "Inference", "Model", "card_text", "find", "load_card", "load_model", "model_names", "save_model"]
