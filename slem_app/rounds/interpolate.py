"""How much of a round's change to the model is served: all of it, or a share.

A round on few labels forgets what the served model knew, and is worse on other cases of its own site too
(`benchmarks/results/forgetting.md`). What lies between both models, before + SHARE (trained - before), keeps
most of it (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models"). The hold-out decides.
"""

from __future__ import annotations

from dataclasses import replace

from slem_app.evaluate.confidence import Observed
from slem_app.finetune.run import keep
from slem_app.network import Segmenter, build
from slem_app.rounds.validate import HoldOutScores
from slem_app.weights import Model

__all__ = ["SHARE", "interpolated", "interpolated_if_better"]

SHARE = 0.3
"""Share of a round's change that is tried beside the whole of it."""


def interpolated(served: Model, trained: Segmenter, share: float) -> Segmenter:
    """A new network: the served weights and a share, 0 to 1, of what training has changed in them."""
    mixed = build(served.card.network)
    mixed.load_state_dict(trained.state_dict())
    keep(served, mixed, share)
    return mixed.eval()


def interpolated_if_better(
    served: Model, best: Model, figures: dict[str, float], cases: list[Observed], scores: HoldOutScores
) -> tuple[Model, dict[str, float], list[Observed], str]:
    """A round's model, or the one between it and the served one where that is better on the hold-out.

    Args:
        served: from which the round started.
        best: the round's.
        figures: mean Dice of `best` by region and in the mean.
        cases: what was observed of `best` on the hold-out.
        scores: measures a network there.

    Returns:
        The model, its figures, what was observed of it, and a sentence where a share is kept, else empty.
    """
    mixed = interpolated(served, best.network, SHARE)
    seen: list[Observed] = []
    found = scores(mixed, again=True, into=seen)
    if found["mean"] <= figures["mean"]:
        return best, figures, cases, ""
    note = (
        f"only {SHARE:.0%} of the round's change to the model is kept: mean Dice {found['mean']:.4f} on the "
        f"hold-out, {figures['mean']:.4f} with the whole change"
    )
    return replace(best, network=mixed), found, seen, note
