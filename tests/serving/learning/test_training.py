"""The Train buttons: start, status, stop and end in MONAI Label's words, with a real process; what a
restarted server finds.
"""

import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from slem_app import phantom
from slem_app.errors import BadSetting
from slem_app.formats import write_nifti
from slem_app.rounds.job import RUNNING, RoundFolder, latest_round
from slem_app.rounds.lock import Busy
from slem_app.serving.http.learning_requests import parse_train
from slem_app.serving.http.train_routes import adapt_router, train_router
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.learning.request_types import TrainRequest
from slem_app.serving.learning.training import ModelTrainer, Trainings
from slem_app.serving.models.versions import VersionWatcher
from slem_app.weights import BRAIN_LABELS, load_model
from slem_app.weights.published import Published
from tests.serving.web import served
from tests.waiting import wait_until

QUICK = {"epoch_steps": 1, "settings": {"patch": [16, 16, 16]}}
LONG = {"epoch_steps": 5000, "settings": {"patch": [16, 16, 16]}}


@pytest.fixture
def labelled(datastore: CaseDatastore, heads: dict[str, phantom.Phantom], tmp_path: Path) -> CaseDatastore:
    for case, head in heads.items():
        path = tmp_path / f"{case}.nii.gz"
        write_nifti(head.labels, head.grid, BRAIN_LABELS, path)
        datastore.save_label(case, str(path), "final", {})
    return datastore


def task(store: CaseDatastore, models: Path, **defaults: object) -> ModelTrainer:
    published = Published(store.root / "models", "slem_brain", models / "slem_brain")
    return ModelTrainer(Trainings(store, defaults=defaults), VersionWatcher(published))


def test_both_buttons_start_a_round_and_the_polls_tell_how_it_goes(labelled, models) -> None:
    trainer = task(labelled, models, **QUICK)
    with served(train_router(trainer.trainings, {"slem_brain": trainer})) as ask:
        follow(trainer, ask)


def follow(trainer: ModelTrainer, ask: Callable[..., requests.Response]) -> None:
    """A round from the first click to its end, as the clients see it."""
    assert ask("GET", "/train/?check_if_running=true").status_code == 404
    assert ask("GET", "/train/").status_code == 404
    begun = ask(
        "POST",
        "/train/",
        json={"slem_brain": {"max_epochs": [1, 2], "name": "mine", "device": ["cpu"], "client_id": "x"}},
    ).json()
    assert begun["slem_brain"]["result"]["status"] == RUNNING
    assert 0 <= trainer.stats()["best_metric"] <= 1
    assert trainer.stats()["total_time"] == ""
    assert ask("GET", "/train/?check_if_running=true").json()["status"] == RUNNING
    refused = ask("POST", "/train/slem_brain", json={})
    assert (refused.status_code, "a training is already running" in refused.json()["detail"]) == (429, True)
    assert "a training is already running" in ask("POST", "/train/", json={}).json()["slem_brain"]["detail"]
    assert ask("POST", "/train/pretraining", json={}).status_code == 404
    wait_until(lambda: ask("GET", "/train/?check_if_running=true").status_code == 404, 300)
    done = ask("GET", "/train/").json()
    assert (done["status"], done["request"]["model"], len(ask("GET", "/train/?all=true").json())) == (
        "DONE",
        "slem_brain",
        1,
    )
    assert any("mean Dice" in line for line in done["details"])
    stats = trainer.stats()
    assert (stats["epoch"], stats["total_epochs"]) == (1, 1)
    assert stats["total_time"] != ""
    assert ask("DELETE", "/train/").json() is None
    # though the process may not have ended yet
    assert ask("POST", "/train/slem_brain", json={"device": "cpu"}).status_code == 200
    stopped = ask("DELETE", "/train/").json()
    assert (stopped["status"], stopped["id"]) == ("STOPPED", trainer.trainings.over)


def test_a_model_can_be_made_at_home_in_the_archive_without_any_label(datastore, models) -> None:
    trainer = task(datastore, models, settings={"patch": [16, 16, 16]})  # of a round on labels: not for this
    with served(adapt_router(trainer.trainings, {"slem_brain": trainer})) as ask:
        assert ask("POST", "/slem/adapt/liver", json={}).status_code == 404
        wanted = {"max_epochs": 1, "epoch_steps": 1, "train_batch_size": 1, "device": "cpu"}
        begun = ask("POST", "/slem/adapt/slem_brain", json=wanted).json()
    assert begun["status"] == RUNNING
    wait_until(lambda: trainer.trainings.running() is None, 300)
    done = trainer.trainings.tasks()[-1]
    assert (done["status"], done["published"]) == ("DONE", 0)
    assert "no labelled case is held out" in done["reason"]


def test_stop_kill_and_a_restarted_server(labelled, models) -> None:
    trainer = task(labelled, models, **LONG)
    trainer.start(TrainRequest())
    restarted = Trainings(labelled)
    with pytest.raises(Busy):
        restarted.start(trainer.watcher, TrainRequest())
    wait_until(lambda: latest_round(restarted.root).status().stage != "starting", 300)
    assert restarted.running() is not None
    stopped = restarted.stop()
    assert (stopped["status"], restarted.running(), restarted.lock.held()) == ("STOPPED", None, False)
    trainer.start(TrainRequest())
    wait_until(lambda: latest_round(restarted.root).status().stage != "starting", 300)
    os.killpg(restarted.lock.holder(), signal.SIGKILL)
    wait_until(lambda: trainer.trainings.running() is None, 300)
    task_now = restarted.tasks()[-1]
    assert task_now["status"] == "ERROR"
    assert "was killed (signal 9)" in task_now["reason"]


def test_what_cannot_be_done_is_refused_before_anything_starts(datastore, labelled, models, tmp_path) -> None:
    trainer = task(labelled, models)
    for request, text in (
        ({"max_epochs": "many"}, "max_epochs cannot be 'many'"),
        ({"max_epochs": 0}, "max_epochs cannot be 0: expected a whole number from 1 to 1000"),
        ({"max_epochs": 10**9}, "expected a whole number from 1 to 1000"),
        ({"max_epochs": float("inf")}, "max_epochs cannot be 'inf'"),
        ({"max_epochs": "9" * 5000}, "max_epochs cannot be '9999"),
        ({"max_epochs": "²"}, "max_epochs cannot be"),
        ({"max_epochs": True}, "max_epochs cannot be 'True'"),
        ({"epoch_steps": 10**6}, "epoch_steps cannot be 1000000"),
        ({"early_stop_patience": -5}, "early_stop_patience cannot be -5"),
        ({"train_batch_size": 10**6}, "train_batch_size cannot be 1000000"),
        ({"train_batch_size": float("nan")}, "train_batch_size cannot be 'nan'"),
        ({"gpus": "0,0"}, "each GPU once"),
        ({"gpus": "²"}, "cannot be read"),
        ({"gpus": "first"}, "gpus 'first' cannot be read"),
        ({"device": "tpu"}, "unknown device 'tpu'"),
        ({"name": "../x"}, "cannot be used"),
    ):
        with pytest.raises(BadSetting, match=text):
            trainer.start(parse_train(request))
    assert latest_round(trainer.trainings.root) is None
    assert not trainer.trainings.lock.held()
    for case in ("A", "B"):
        labelled.remove_label(case, "final")
    with pytest.raises(BadSetting, match="no case has a label of slem_brain yet"):
        trainer.start(TrainRequest())


def test_a_round_that_was_killed_after_it_had_published_is_told_as_done(labelled, models) -> None:
    trainer = task(labelled, models, **QUICK)
    trainings, published = trainer.trainings, trainer.watcher.published
    model = load_model(published.bundled)
    for figures, number in (({"mean": 0.5}, 1), ({"mean": 0.1}, 0)):
        folder = RoundFolder.make(trainings._job(trainer.watcher, TrainRequest()), {})
        published.publish(model.card, model.network, figures, {"mean": 0.3}, round=folder.id)
        assert folder.status().status == RUNNING
        told = trainings.tasks()[-1]
        assert (told["id"], told["status"], told["published"]) == (folder.id, "DONE", number)
        assert "on the hold-out" in told["reason"]
    folder = RoundFolder.make(trainings._job(trainer.watcher, TrainRequest()), {})
    told = trainings.tasks()[-1]
    assert (told["status"], told["published"], "nothing was published" in told["reason"]) == (
        "ERROR",
        0,
        True,
    )


def test_rounds_that_wait_hold_no_thread_and_are_few(
    labelled, models, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, began = task(labelled, models), threading.Event()
    monkeypatch.setattr(trainer.trainings, "running", lambda: None if began.is_set() else "a round")
    monkeypatch.setattr(trainer.trainings, "start", lambda *_: busy())
    monkeypatch.setattr("slem_app.serving.learning.training.sleep", lambda _: began.wait(0.05))
    router = train_router(trainer.trainings, {"slem_brain": trainer})
    router.get("/thread")(lambda: "answered by a thread")  # FastAPI has 40 of them
    with served(router) as ask, ThreadPoolExecutor(105) as clients:
        asked = lambda _: ask("POST", "/train/slem_brain?enqueue=true", json={})  # noqa: E731
        answers = list(clients.map(asked, range(105)))
        assert ask("GET", "/train/thread").json() == "answered by a thread"
        told = [answer.json() for answer in answers if answer.status_code == 200]
        assert [one["status"] for one in told] == ["PENDING"] * 4
        assert {answer.status_code for answer in answers} == {200, 429}
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert "4 trainings are already waiting" in refused.json()["detail"]
        assert ask("POST", "/train/slem_brain?enqueue=true", json={"max_epochs": -1}).status_code == 400
    trainer.trainings.waiting.clear()
    began.set()
    trainer.trainings.waiter.join(20)


def busy() -> None:
    raise Busy("a training is running already")
