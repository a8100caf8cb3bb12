"""A share of what a round has learnt is served where the hold-out is better for it."""

from pathlib import Path

import pytest
import torch

from slem_app.network import Segmenter, build
from slem_app.rounds.interpolate import SHARE, interpolated_if_better
from slem_app.weights import Model
from tests.untrained import noisy, small_card


def model(network: Segmenter) -> Model:
    return Model(small_card(), network.eval().requires_grad_(False), Path())


class Scores:
    """A hold-out on which a network is worth `value`; it keeps what it was asked of."""

    def __init__(self, value: float) -> None:
        self.value, self.asked = value, []

    def __call__(self, network: Segmenter, again: bool = False, into: list | None = None) -> dict[str, float]:
        self.asked.append(network)
        assert again
        into.append("seen")
        return {"WT": self.value, "mean": self.value}


@pytest.mark.parametrize("value", [0.5, 0.4])
def test_all_that_was_learnt_is_kept_where_a_share_is_not_better(value: float) -> None:
    served, best = model(build(small_card().network)), model(noisy())
    figures = {"WT": 0.5, "mean": 0.5}
    assert interpolated_if_better(served, best, figures, ["own"], Scores(value)) == (
        best,
        figures,
        ["own"],
        "",
    )


def test_a_share_is_kept_where_it_is_better_and_said() -> None:
    served, best = model(build(small_card().network)), model(noisy())
    before = {name: tensor.clone() for name, tensor in best.network.state_dict().items()}
    scores = Scores(0.6)
    kept, figures, cases, note = interpolated_if_better(
        served, best, {"WT": 0.5, "mean": 0.5}, ["own"], scores
    )
    assert (figures["mean"], cases, kept.network) == (0.6, ["seen"], scores.asked[0])
    assert note == (
        "only 30% of the round's change to the model is kept: mean Dice 0.6000 on the hold-out, 0.5000 with "
        "the whole change"
    )
    mixed, old = kept.network.state_dict(), served.network.state_dict()
    for name, tensor in before.items():
        torch.testing.assert_close(mixed[name], old[name] + SHARE * (tensor - old[name]))
        torch.testing.assert_close(best.network.state_dict()[name], tensor)  # the round's own is untouched
    assert (kept.card, kept.folder) == (best.card, best.folder)
