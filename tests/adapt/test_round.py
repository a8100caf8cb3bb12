"""A round on an archive: what it learns from, and when its model is served."""

import pytest
import torch

from slem_app.adapt import losses
from slem_app.adapt.round import ArchiveRound, share_out
from slem_app.rounds.job import DONE, FAILED, Job, RoundFolder
from slem_app.training import TrainingFailed
from slem_app.weights import load_model

VIEW = {"view": {"shape": [32, 32, 32]}, "batch": 2}


def run(job: Job) -> RoundFolder:
    folder = RoundFolder.make(job, {})
    ArchiveRound(folder, "cpu").run()
    return folder


def test_labels_are_not_learnt_but_decide_whether_the_model_is_served(job) -> None:
    order = job(archive=True, settings=VIEW, publish_tolerance=1.0, epoch_steps=1)
    status = run(order).status()
    assert (status.status, status.published, status.epoch) == (DONE, 1, 2)
    assert status.reason.startswith("version 1 is served: mean 0.")
    version = order.published.versions(check=True)[1]
    assert (version.record.labels, sorted(version.record.held_out)) == ({}, ["A", "B", "C"])
    assert version.record.settings["studies"] == 3
    assert "adapted without labels to 3 studies" in load_model(order.published.served()).card.training


def test_without_any_label_the_model_is_kept_for_a_person_to_choose(job) -> None:
    order = job(archive=True, settings=VIEW, cases=(), epoch_steps=1, max_epochs=1)
    status = run(order).status()
    assert (status.status, status.published) == (DONE, 0)
    assert "no labelled case is held out" in status.reason
    assert "slem publish" in status.reason
    assert len(order.published.refused()) == 1


def test_no_more_studies_than_wanted_are_prepared(job) -> None:
    order = job(archive=True, settings=VIEW, cases=(), epoch_steps=1, max_epochs=1, most_cases=2)
    run(order)
    assert order.published.refused()[0].record.settings["studies"] == 2


def test_a_round_whose_loss_is_no_number_leaves_no_checkpoint(job, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(losses, "divergence", lambda *_, **__: torch.tensor(float("nan")))
    order = job(archive=True, settings=VIEW, cases=(), epoch_steps=1, max_epochs=1)
    folder = RoundFolder.make(order, {})
    with pytest.raises(TrainingFailed, match="the loss is nan"):
        ArchiveRound(folder, "cpu").run()
    assert folder.status().status == FAILED
    assert "the loss is nan" in folder.status().reason
    assert not list((ArchiveRound(folder, "cpu").root / "work").iterdir())


def test_a_tenth_of_five_or_more_studies_is_held_out() -> None:
    few = tuple("abcd")
    assert share_out(few) == (few, ())
    names = tuple(f"case{n:02d}" for n in range(20))
    learnt, held_out = share_out(names)
    assert (len(learnt), len(held_out)) == (18, 2)
    assert not set(learnt) & set(held_out)
    assert set(held_out) <= {*share_out((*names, "later"))[1]} | {*share_out((*names, "later"))[0]}
