"""Batches: MONAI Label's requests as they are, on a machine without a GPU, with a real process; stopped, gone
on with, refused.
"""

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from slem_app import phantom
from slem_app.errors import BadSetting, NotFound
from slem_app.formats import write_nifti
from slem_app.rounds.lock import Busy
from slem_app.serving.http.batch_routes import batch_router
from slem_app.serving.http.learning_requests import parse_batch
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.learning.batch import Batches
from slem_app.weights import BRAIN_LABELS, load_model
from tests.serving.web import served
from tests.waiting import wait_until

STOCK = {  # what MONAI Label sends if nobody says anything
    "device": "cuda",
    "multi_gpu": True,
    "gpus": "all",
    "logging": "WARNING",
    "save_label": True,
    "label_tag": "original",
    "max_workers": 1,
    "max_batch_size": 0,
}


@pytest.fixture
def batches(datastore: CaseDatastore, models: Path) -> Batches:
    def model(name: str):
        if name != "slem_brain":
            raise NotFound(f"no model {name!r}")
        return load_model(models / name)

    return Batches(datastore, model)


def submit(datastore: CaseDatastore, case: str, head: phantom.Phantom, tmp_path: Path) -> None:
    write_nifti(head.labels, head.grid, BRAIN_LABELS, tmp_path / "label.nii.gz")
    datastore.save_label(case, str(tmp_path / "label.nii.gz"), "final", {"client_id": "eva"})


@pytest.mark.skipif(torch.cuda.is_available(), reason="the request must not fail where there is no GPU")
def test_the_stock_request_runs_in_the_background_and_leaves_final_labels_alone(
    batches: Batches, heads: dict, tmp_path: Path
) -> None:
    datastore = batches.datastore
    submit(datastore, "A", heads["A"], tmp_path)
    with served(batch_router(batches)) as ask:
        assert (
            ask("GET", "/batch/infer").status_code,
            ask("GET", "/batch/infer?check_if_running=true").status_code,
        ) == (404, 404)
        begin = time.monotonic()
        begun = ask("POST", "/batch/infer/slem_brain?images=unlabeled", json=STOCK)
        assert (begun.status_code, begun.json()["status"]) == (200, "RUNNING"), begun.text
        assert time.monotonic() - begin < 5
        assert ask("GET", "/batch/infer?check_if_running=true").json()["id"] == begun.json()["id"]
        refused = ask("POST", "/batch/infer/slem_brain", json=STOCK)
        assert (refused.status_code, "a batch is already running" in refused.json()["detail"]) == (429, True)
        wait_until(lambda: ask("GET", "/batch/infer").json()["status"] != "RUNNING", 120)
        done = ask("GET", "/batch/infer").json()
        assert (done["status"], done["total"], done["done"], done["skipped"], done["request"]["model"]) == (
            "DONE",
            1,
            1,
            {},
            "slem_brain",
        ), done
        assert any("1 drafts by slem_brain test" in line for line in done["details"])
        assert "end_ts" in done
        kept = [
            (one["case"], one["tag"], one["automatic"]) for case in "AB" for one in datastore.history(case)
        ]
        assert kept == [("A", "final", False), ("B", "original", True)]
        assert ask("DELETE", "/batch/infer").json() is None
        assert ask("POST", "/batch/infer/spleen", json=STOCK).status_code == 404
        assert len(ask("GET", "/batch/infer?all=true").json()) == 1


def test_a_killed_batch_is_told_and_the_same_request_goes_on(batches: Batches, studies: Path) -> None:
    (studies / "B/B-t1c.nii.gz").write_bytes(b"broken")
    batches.start("slem_brain", parse_batch({"images": "unlabeled", "device": "cpu"}))
    os.killpg(batches.process.pid, signal.SIGKILL)
    batches.wait()
    (one,) = batches.runs()
    assert batches.task(one)["status"] == "ERROR"
    assert "the same request goes on" in batches.task(one)["reason"]
    again = Batches(batches.datastore, batches.served)  # as a server that was started anew
    assert again.running() is None
    assert again.result("slem_brain", parse_batch({"images": ["A", "B/t2f"]})) == {
        "A": {"label": "A", "tag": "original"},
        "B": {},
    }
    task = again.task(again.runs()[-1])
    assert (task["status"], task["reason"], list(task["skipped"])) == (
        "DONE",
        "1 cases could not be segmented",
        ["B"],
    )


def test_a_stopped_batch_says_so(batches: Batches) -> None:
    batches.start("slem_brain", parse_batch({}))
    stopped = batches.stop()
    assert (stopped["status"], batches.running()) == ("STOPPED", None)


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"label_tag": "final"}, "never kept as a final label"),
        ({"images": "some"}, "images must be one of unlabeled, labeled, all"),
        ({"max_batch_size": "many"}, "max_batch_size cannot be 'many'"),
        ({"gpus": "first"}, "gpus 'first' cannot be read"),
    ],
)
def test_bad_requests_are_refused_before_anything_starts(batches: Batches, request_: dict, text: str) -> None:
    with pytest.raises(BadSetting, match=text):
        batches.start("slem_brain", parse_batch(request_))
    with pytest.raises(NotFound, match="no case 'C'"):
        batches.start("slem_brain", parse_batch({"images": ["C"]}))
    assert batches.running() is None
    handle = batches.lock.take()  # free
    with pytest.raises(Busy):
        batches.start("slem_brain", parse_batch({}))
    os.close(handle)
