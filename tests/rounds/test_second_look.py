"""A round of a model that looks twice: both networks learn, and a version keeps what looks again in it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from slem_app.network import build
from slem_app.rounds.job import DONE
from slem_app.rounds.validate import HoldOutScores
from slem_app.weights import Model, load_model, save_model
from slem_app.weights.folders import CARD_FILE, DETAIL_FILE
from tests.finetune.conftest import TINY
from tests.rounds.test_round import job, labelled, run, served  # noqa: F401


@pytest.fixture
def twice(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A model on a shelf, and beside it what looks again for it."""
    shelf = tmp_path / "shelf"
    card = load_model(served).card
    finer = replace(card.preparation, spacing=(3.0, 3.0, 3.0))
    save_model(shelf / "finer", replace(card, name="finer", preparation=finer), build(TINY))
    (shelf / "finer" / CARD_FILE).rename(shelf / "finer" / DETAIL_FILE)
    save_model(shelf / "slem_brain", replace(card, detail="finer"), build(TINY))
    monkeypatch.setenv("SLEM_MODELS", str(shelf))
    return shelf / "slem_brain"


@pytest.fixture
def worth(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the Dice with a new second look; all others are 0.5."""

    def set_to(value: float) -> None:
        def told(self, network, most=None, again=False, finer=None, into=None) -> dict[str, float]:
            return {"WT": 0.5, "mean": 0.5 if finer is None else value}

        monkeypatch.setattr(HoldOutScores, "__call__", told)

    return set_to


def weights(model: Model) -> torch.Tensor:
    return torch.cat([p.flatten() for p in model.detail.network.parameters()])


def test_both_networks_learn_and_the_version_keeps_them(job, twice: Path, worth) -> None:  # noqa: F811
    worth(0.6)
    order = job(served=str(twice), bundled=str(twice))
    status = run(order).status()
    assert (status.status, status.published) == (DONE, 1)
    assert "mean 0.6000 on the hold-out" in status.reason
    first, version = load_model(twice), load_model(order.published.served())
    assert version.detail.folder == version.folder
    assert not torch.equal(weights(version), weights(first))
    assert version.detail.card.parent == "finer 1"
    assert "3 cases" in version.detail.card.training or "2 cases" in version.detail.card.training


def test_a_second_look_that_became_worse_is_not_kept(job, twice: Path, worth) -> None:  # noqa: F811
    worth(0.4)
    order = job(served=str(twice), bundled=str(twice))
    assert run(order).status().published == 1
    version = load_model(order.published.served())
    assert version.detail.folder.name == "finer"
    assert torch.equal(weights(version), weights(load_model(twice)))


def test_a_version_hands_its_own_second_look_on(job, twice: Path, worth) -> None:  # noqa: F811
    worth(0.6)
    order = job(served=str(twice), bundled=str(twice))
    run(order)
    learnt = load_model(order.published.served())
    worth(0.4)
    run(replace(order, served=str(learnt.folder)))
    version = load_model(order.published.served())
    assert version.folder != learnt.folder
    assert version.detail.folder == version.folder
    torch.testing.assert_close(weights(version), weights(learnt))
