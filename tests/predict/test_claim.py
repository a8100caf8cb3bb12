"""How far a prompt reaches: the margins by which a label is shown."""

import numpy as np

from slem_app.predict.claim import margins
from slem_app.regions import PostProcess, decide
from slem_app.weights import BRAIN_LABELS


def test_margins_are_positive_just_where_thresholds_give_the_label() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, (3, 12, 12, 12)).astype(np.float32)
    shown = decide(1 / (1 + np.exp(-logits)), BRAIN_LABELS, PostProcess(threshold=0.3), 1.0)
    for value, label in enumerate(("", *BRAIN_LABELS.names)):
        np.testing.assert_array_equal((margins(logits, BRAIN_LABELS, label, 0.3) > 0).all(axis=0), shown == value)
