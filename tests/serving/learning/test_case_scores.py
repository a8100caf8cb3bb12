"""Cases are measured in the background, once a model, and never in a request's way."""

import json
import os
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import nibabel
import pytest
import torch

from slem_app.errors import WorkerLost
from slem_app.predict import Predictor
from slem_app.selection import LabelMap, Measures, measure
from slem_app.serving.cases.case import Case
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.learning import case_scores as module
from slem_app.serving.learning.case_scores import KEPT, Scores
from slem_app.weights import Model, load_model
from tests.waiting import wait_until

BOTH = ("A", "B")
PATIENCE = 120  # seconds: the thread gets what others leave


@pytest.fixture
def served(models: Path) -> list[Predictor]:
    """What is served now is the last one."""
    return [Predictor(load_model(models / "slem_brain"))]


@pytest.fixture
def make(datastore: CaseDatastore, served: list[Predictor], tmp_path: Path):
    return lambda **more: Scores(
        tmp_path / "store" / "scores", datastore, lambda: served[-1:], seed=0, **more
    )


def steps(scores: Scores) -> int:
    count = 0
    while scores.step():
        count += 1
    return count


def published(before: Predictor, seed: int) -> Predictor:
    """A model with other weights."""
    network = module.copy.deepcopy(before.network)
    network.head.weight.data.mul_(1 + 0.5 * seed)
    return Predictor(
        Model(replace(before.card, sha256=f"{seed:064x}", file="x"), network, before.model.folder)
    )


def test_every_case_is_measured_once(make, served: list[Predictor]) -> None:
    scores = make()
    assert scores.of(BOTH) == ({}, ())
    assert steps(scores) == 2
    measures, notes = scores.of(BOTH)
    assert (set(measures), notes) == ({"A", "B"}, ())
    assert measures["A"].change is None
    assert steps(scores) == 0


def test_a_restart_repeats_nothing(make) -> None:
    first = make()
    steps(first)
    again = make()
    assert again.of(BOTH)[0]["A"].to_table() == first.of(BOTH)[0]["A"].to_table()
    assert steps(again) == 0


def test_a_new_model_measures_anew_and_compares(make, served: list[Predictor]) -> None:
    scores = make()
    steps(scores)
    served.append(published(served[0], 1))
    measures, notes = scores.of(BOTH)
    assert (set(measures), len(notes)) == ({"A", "B"}, 1)  # meanwhile what is known counts
    assert scores.step()
    assert len(scores.of(BOTH)[1]) == 1
    assert steps(scores) == 1
    measures, notes = scores.of(BOTH)
    assert notes == ()
    assert 0 < measures["A"].change <= 1
    served.append(served[0])  # rolled back
    assert steps(scores) == 0


def test_a_model_that_comes_in_the_middle_measures_all(make, served: list[Predictor]) -> None:
    scores = make()
    assert scores.step()
    served.append(published(served[0], 1))
    assert steps(scores) == 2
    # one was measured before
    assert {case: measures.change is None for case, measures in scores.of(BOTH)[0].items()} != dict.fromkeys(
        BOTH, True
    )


def test_only_the_latest_models_are_kept_on_disk(make, served: list[Predictor]) -> None:
    scores = make()
    for seed in range(1, 4):
        steps(scores)
        served.append(published(served[0], seed))
    steps(scores)
    assert (
        len(list((scores.files.folder / "A").glob("*.json")))
        == len(list((scores.files.folder / "A").glob("*.npz")))
        == KEPT
    )
    assert steps(make()) == 0


def test_a_case_whose_files_changed_is_measured_anew(make, studies: Path) -> None:
    scores = make()
    steps(scores)
    os.utime(studies / "A/A-t1c.nii.gz", (1, 1))
    assert steps(scores) == 1


def test_a_damaged_file_is_measured_anew(make) -> None:
    scores = make()
    steps(scores)
    path = next((scores.files.folder / "A").glob("*.json"))
    table = json.loads(path.read_text())
    for text in (
        path.read_text()[:100],
        json.dumps(table | {"format": 0}),
        json.dumps(table | {"measures": {}}),
    ):
        path.write_text(text)
        assert steps(make()) == 1
    next((scores.files.folder / "A").glob("*.npz")).write_bytes(b"PK")  # only the comparison is lost
    assert steps(make()) == 0


def test_a_damaged_segmentation_of_the_model_before_costs_the_comparison_only(
    make, served: list[Predictor]
) -> None:
    scores = make()
    steps(scores)
    next((scores.files.folder / "A").glob("*.npz")).write_bytes(b"PK")
    served.append(published(served[0], 1))
    steps(scores)
    measures, _ = scores.of(BOTH)
    assert measures["A"].change is None
    assert measures["B"].change is not None


def test_a_case_that_cannot_be_measured_is_said_once_and_does_not_stop_the_others(
    make, studies: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (studies / "A/A-t1c.nii.gz").write_bytes((studies / "A/A-t1c.nii.gz").read_bytes()[:2000])
    scores = make()
    assert steps(scores) == 1
    assert steps(scores) == 0
    assert set(scores.of(BOTH)[0]) == {"B"}
    assert caplog.text.count("case A cannot be measured") == 1


def test_what_is_labelled_is_counted_by_label(
    make, datastore: CaseDatastore, studies: Path, tmp_path: Path
) -> None:
    scores = make()
    assert scores.labelled_ml() == {}
    datastore.save_label("A", str(studies / "A/A-seg.nii.gz"), "final", {})
    steps(scores)
    array = nibabel.load(studies / "A/A-seg.nii.gz").get_fdata()
    expected = {
        name: (array == value).sum() * 0.064
        for value, name in enumerate(("necrosis", "edema", "enhancing tumor"), 1)
    }
    assert scores.labelled_ml() == pytest.approx(expected)
    assert make().labelled_ml() == pytest.approx(expected)
    empty = nibabel.load(studies / "A/A-seg.nii.gz")
    nibabel.save(nibabel.Nifti1Image((array * 0).astype("uint8"), empty.affine), tmp_path / "empty.nii.gz")
    datastore.save_label("A", str(tmp_path / "empty.nii.gz"), "final", {})
    steps(scores)
    assert sum(scores.labelled_ml().values()) == 0


def test_a_cluster_scores_and_the_server_itself_where_that_is_lost(
    make, served: list[Predictor], tmp_path: Path
) -> None:
    here = make()
    count = steps(here)
    asked: list[str] = []

    def scorer(case: Case, predictor: Predictor, before: LabelMap | None) -> tuple[Measures, LabelMap]:
        asked.append(case.id)
        if case.id == "B":
            raise WorkerLost("killed")
        prepared, _ = predictor.prepare_case(case.grouping, case.sequence)
        return measure(predictor, prepared, before)

    shutil.rmtree(tmp_path / "store" / "scores")
    there = make(scorer=scorer)
    assert steps(there) == count
    assert sorted(asked) == ["A", "B"]
    found, expected = there.of(BOTH)[0], here.of(BOTH)[0]
    assert set(found) == {"A", "B"}
    for case in found:
        assert found[case].to_table() == expected[case].to_table()


def test_the_thread_works_and_waits_while_a_request_is_answered(
    make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET", 0.0)
    scores = make(load=1.0)
    with scores.busy():
        scores.start()
        time.sleep(0.6)
        assert scores.of(BOTH)[0] == {}
    wait_until(lambda: len(scores.of(BOTH)[0]) >= 2, PATIENCE)
    scores.stop()
    scores.thread.join(PATIENCE)
    assert set(scores.of(BOTH)[0]) == {"A", "B"}
    assert not scores.thread.is_alive()


def test_a_request_that_comes_in_the_middle_of_a_pass_stops_it_and_so_does_the_end(
    make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUIET", 0.0)
    layers, reached, go_on = [], threading.Event(), threading.Event()
    original = torch.nn.Conv3d.forward

    def slow(self: torch.nn.Conv3d, x: torch.Tensor) -> torch.Tensor:
        layers.append(1)
        reached.set()
        go_on.wait(PATIENCE)
        return original(self, x)

    monkeypatch.setattr(torch.nn.Conv3d, "forward", slow)
    scores = make(load=1.0)
    scores.start()
    assert reached.wait(PATIENCE)
    with scores.busy():
        go_on.set()
        time.sleep(1.0)
        assert len(layers) == 1
        scores.stop()
        assert not scores.thread.is_alive()
    assert len(layers) == 1
    assert scores.of(BOTH)[0] == {}


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity"), reason="threads have a priority of their own on Linux only"
)
def test_its_priority_is_low_and_the_servers_is_unchanged(make, monkeypatch: pytest.MonkeyPatch) -> None:
    before = os.getpriority(os.PRIO_PROCESS, 0)
    scores, seen = make(load=1.0), []
    monkeypatch.setattr(
        Scores, "step", lambda self: seen.append(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))
    )
    monkeypatch.setattr(module, "QUIET", 0.0)
    scores.start()
    wait_until(lambda: seen, PATIENCE, pause=0.02)
    scores.stop()
    assert seen[0] == min(19, before + 10)
    assert os.getpriority(os.PRIO_PROCESS, 0) == before


def test_no_load_no_thread(make) -> None:
    scores = make(load=0.0)
    scores.start()
    scores.stop()
    assert scores.thread is None


def test_a_full_disk_does_not_end_the_thread(
    make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "QUIET", 0.0)
    monkeypatch.setattr(module, "POLL", 0.05)
    calls = []

    def fail(self: Scores) -> bool:
        calls.append(1)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Scores, "step", fail)
    scores = make(load=1.0)
    scores.start()
    wait_until(lambda: len(calls) >= 3, PATIENCE, pause=0.02)
    scores.stop()
    assert len(calls) >= 3
    assert "measuring cases failed" in caplog.text
