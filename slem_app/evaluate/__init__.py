"""Figures: scores of a segmentation, evaluation of a model, agreement between readers."""
