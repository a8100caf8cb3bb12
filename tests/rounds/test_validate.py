"""The scores of the hold-out: of the first network alone, and as served, with a second look."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slem_app.finetune.cases import cache_cases
from slem_app.network import build
from slem_app.rounds.labelled import LabelledStudies
from slem_app.rounds.validate import HoldOutScores
from slem_app.volumes.cache import CaseCache
from slem_app.weights import Model, load_model
from tests.finetune.conftest import TINY
from tests.rounds.test_round import job, labelled, served  # noqa: F401


def biased(bias: float) -> torch.nn.Module:
    """A network that says the same everywhere."""
    network = build(TINY).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(bias)
    return network


@pytest.fixture
def model(served: Path) -> Model:  # noqa: F811
    """Its finer network finds nothing."""
    first = load_model(served)
    finer = replace(first, network=biased(-9.0))
    return replace(first, detail=finer)


def test_what_decides_is_measured_with_the_second_look(job, model: Model, tmp_path: Path) -> None:  # noqa: F811
    studies, card = LabelledStudies(job()), model.card
    cache = CaseCache(tmp_path / "cache")
    ready = cache_cases(studies, cache, card.sequences, card.preparation, card.labels).ready
    scores = HoldOutScores(studies, ready, cache, model, tmp_path / "copies", "cpu")
    everywhere = biased(9.0)  # two thirds of the mean are the finer network's: nothing is left of it
    alone, seen_again = scores(everywhere), scores(everywhere, again=True)
    assert alone["WT"] > 0.02
    assert seen_again["WT"] == 0
    assert scores(everywhere, 1).keys() == {"WT", "TC", "ET", "mean"}
