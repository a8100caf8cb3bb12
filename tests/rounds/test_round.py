"""A learning round: what it learns, what it leaves, and what it survives."""

import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from slem_app.errors import BadSetting, BadStudy, StorageFailed
from slem_app.finetune.loop import TrainingFailed
from slem_app.network import build
from slem_app.phantom import make, write_nifti
from slem_app.regions import PostProcess
from slem_app.rounds import round as rounds_module
from slem_app.rounds.job import DONE, FAILED, RUNNING, Job, Labelled, RoundFolder, latest_round
from slem_app.rounds.labelled import mix
from slem_app.rounds.lock import Busy, Lock
from slem_app.rounds.plan import plan
from slem_app.rounds.round import Round
from slem_app.weights import BRAIN_LABELS, BRAIN_SEQUENCES, Card, load_model, save_model
from slem_app.weights import published as published_module
from tests.finetune.conftest import COARSE, TINY

SMALL = {"shape": (40, 48, 40), "spacing": (4.0, 4.0, 4.0)}
QUICKEST = {"patch": [24, 24, 24], "rate": 1e-2, "batch": 2}
QUICK = {"patch": [16, 16, 16], "rate": 5e-3, "batch": 2}


@pytest.fixture(scope="session")
def labelled(tmp_path_factory) -> tuple[Path, tuple[Labelled, ...]]:
    """A studies folder of three phantoms and a label for each, on the grid of t1c."""
    root = tmp_path_factory.mktemp("labelled")
    cases = []
    for n, name in enumerate("ABC"):
        head = make(seed=n + 1, **SMALL)
        write_nifti(head, root / "studies", name)
        path = root / "labels" / name / "label.nii.gz"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(head.labels.astype(np.uint8), head.grid.affine), path)
        cases.append(Labelled(name, str(path), "t1c", "final 1"))
    return root / "studies", tuple(cases)


@pytest.fixture(scope="session")
def served(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    card = Card(
        name="slem_brain",
        version="1",
        description="untrained",
        sequences=BRAIN_SEQUENCES,
        reference_order=BRAIN_SEQUENCES,
        network=TINY,
        preparation=COARSE,
        labels=BRAIN_LABELS,
        postprocess=PostProcess(),
    )
    folder = tmp_path_factory.mktemp("served")
    save_model(folder, card, build(TINY))
    return folder


@pytest.fixture
def job(labelled, served, tmp_path):
    def made(**changes) -> Job:
        studies, cases = labelled
        own = {"max_epochs": 2, "epoch_steps": 2, "device": "cpu", "settings": QUICK, "cases": cases}
        place = {
            "served": str(served),
            "bundled": str(served),
            "models": str(tmp_path / "models"),
            "root": str(tmp_path / "training"),
            "studies": str(studies),
        }
        return Job(model="slem_brain", **{**place, **own, **changes})

    return made


def run(job: Job) -> RoundFolder:
    folder = RoundFolder.make(job, {})
    Round(folder, "cpu").run()
    return folder


def test_a_round_tells_how_it_goes_and_publishes_what_is_not_worse(job) -> None:
    order = job(publish_tolerance=1.0)
    folder = run(order)
    status = folder.status()
    assert (status.status, status.epoch, status.total_epochs, status.published) == (DONE, 2, 2, 1)
    assert 0 <= status.best_metric <= 1
    assert len(status.history) == 3
    assert status.skipped == {}
    assert re.fullmatch(
        r"version 1 is served: mean 0\.\d{4} on the hold-out, version 0 has 0\.\d{4}", status.reason
    )
    version = order.published.versions(check=True)[1]
    assert (version.served, version.problem, version.record.round, version.record.parent) == (
        True,
        "",
        folder.id,
        0,
    )
    assert sorted({**version.record.labels, **version.record.held_out}) == ["A", "B", "C"]
    assert len(version.record.held_out) == 1
    assert version.record.settings["steps"] == 4
    assert version.card.figures.keys() == {
        "hold-out dice WT",
        "hold-out dice TC",
        "hold-out dice ET",
        "hold-out dice mean",
    }
    assert sorted(path.name for path in folder.path.iterdir()) == ["job.json", "reserve", "status.json"]


def test_few_labels_are_not_trusted_and_that_is_said(job) -> None:
    status = run(job()).status()
    assert not status.trusted
    assert tuple(status.notes) == (
        "the metric was measured on 1 of 3 labelled cases: do not trust it below 5 labelled cases",
    )


def test_a_single_label_is_learnt_but_what_it_makes_is_not_served(job, labelled) -> None:
    order = job(cases=labelled[1][:1], publish_tolerance=1.0)
    status = run(order).status()
    assert (status.status, status.published) == (DONE, 0)
    assert (
        "no labelled case is held out, so it cannot be compared with version 0: label more cases"
        in status.reason
    )
    assert "no labelled case is held out, so the metric was measured on training cases" in status.notes[0]
    assert order.published.served_number() == 0
    assert run(job(cases=labelled[1][:1], publish="always")).status().published == 1


def test_a_worse_model_is_not_served(job) -> None:
    run(job(max_epochs=3, epoch_steps=20, settings=QUICKEST))
    order = job(
        served=str(job().published.served()), settings={**QUICK, "rate": 1.0, "clip": 1e9, "average": 0.0}
    )
    status = run(order).status()
    assert (status.status, status.published, order.published.served_number()) == (DONE, 0, 1)
    assert status.reason.startswith("refused: mean")
    assert order.published.refused()[0].record.labels


def test_the_next_round_learns_what_is_new_beside_what_the_served_model_knows(
    job, labelled, tmp_path, caplog
) -> None:
    caplog.set_level("INFO")
    (tmp_path / "hold_out.yaml").write_text("train: [C]\n")
    run(job(cases=labelled[1][:2], publish="always"))
    first = job().published.versions()[1]
    assert len(first.record.labels) == 1
    run(job(served=str(first.folder), publish="always"))
    assert "1 new cases, 1 old, 1 held out" in caplog.text
    second = job().published.versions()[2]
    assert second.record.held_out == first.record.held_out  # the third case does not move it
    assert len(job().published.learnt(2)) == 2


def test_the_user_says_which_case_validates(job, tmp_path) -> None:
    (tmp_path / "hold_out.yaml").write_text("validate: [B]\ntrain: [A, C]\n")
    run(job(publish="always"))
    assert job().published.versions()[1].record.held_out == {"B": "final 1"}
    (tmp_path / "hold_out.yaml").write_text("validate: [A, B, C]\n")
    with pytest.raises(BadStudy, match="all labelled cases are held out, none is left to train on"):
        run(job())
    (tmp_path / "hold_out.yaml").write_text("validate: B\n")
    with pytest.raises(BadSetting, match="validate must be a list"):
        run(job())
    assert latest_round(Path(job().root)).status().status == FAILED


def test_the_metric_rises(job) -> None:
    status = run(job(max_epochs=3, epoch_steps=20, settings=QUICKEST)).status()
    assert status.best_metric > status.history[0] + 0.1
    assert status.published == 1


def test_it_stops_when_it_no_longer_gets_better(job) -> None:
    status = run(
        job(max_epochs=5, epoch_steps=1, early_stop_patience=1, settings={**QUICK, "rate": 1e-12})
    ).status()
    assert (status.status, status.epoch) == (DONE, 2)


def test_labels_that_cannot_be_used_are_left_out_by_name_and_the_round_goes_on(
    job, labelled, tmp_path
) -> None:
    good, grid, values = labelled[1]
    image = nib.load(grid.label)
    other, unknown = tmp_path / "other.nii.gz", tmp_path / "unknown.nii.gz"
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:-1], image.affine), other)
    nib.save(
        nib.Nifti1Image((np.asarray(nib.load(values.label).dataobj) * 50).astype(np.uint8), image.affine),
        unknown,
    )
    gone = replace(good, case="D")
    cases = (good, replace(grid, label=str(other)), replace(values, label=str(unknown)), gone)
    status = run(job(cases=cases)).status()
    assert status.status == DONE
    assert set(status.skipped) == {"B", "C", "D"}
    assert "its label lies on" in status.skipped["B"]
    assert "label values" in status.skipped["C"]
    assert "no case 'D'" in status.skipped["D"]


def test_without_a_usable_label_it_says_so(job, labelled) -> None:
    folder = RoundFolder.make(job(cases=(replace(labelled[1][0], label="/nowhere/label.nii.gz"),)), {})
    with pytest.raises(
        BadStudy, match="no labelled case to train on .left out A: A: its label nowhere/label.nii.gz is gone"
    ):
        Round(folder, "cpu").run()
    assert folder.status().status == FAILED


def test_nan_stops_it_and_names_the_case(job, monkeypatch) -> None:
    monkeypatch.setattr(
        "slem_app.finetune.loop.deep_loss", lambda outputs, *_: outputs[0].sum() * float("nan")
    )
    folder = RoundFolder.make(job(), {})
    with pytest.raises(TrainingFailed):
        Round(folder, "cpu").run()
    status = folder.status()
    assert status.status == FAILED
    assert "look at case " in status.reason
    assert job().published.numbers() == (0,)


def test_a_gpu_without_memory_gets_smaller_batches_then_a_clear_report(job, monkeypatch) -> None:
    tried = []

    def full(network, cache, ids, settings, *_, **__):
        tried.append(settings.batch)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(rounds_module, "train", full)
    folder = RoundFolder.make(job(settings={**QUICK, "batch": 4}), {})
    with pytest.raises(torch.cuda.OutOfMemoryError):
        Round(folder, "cpu").run()
    assert tried == [4, 2, 1]
    assert "ran out of memory even with one patch per step" in folder.status().reason
    assert any("continuing with 2 patches" in note for note in folder.status().notes)


def test_a_full_disk_ends_it_with_the_reason_and_the_next_round_goes_on(job, monkeypatch) -> None:
    save, calls = torch.save, []

    def full(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return save(*arguments, **named)

    monkeypatch.setattr(torch, "save", full)
    folder = RoundFolder.make(job(), {})
    with pytest.raises(StorageFailed):
        Round(folder, "cpu").run()
    assert "No space left on device" in folder.status().reason
    second = run(job())
    assert second.status().status == DONE
    assert len(second.status().history) == 3  # the first epoch was not done again


def test_new_labels_have_their_share_beside_old_ones() -> None:
    found = mix(["a", "b", "c", "d", "e"], ["b", "c", "d", "e"], 0.5, 64)
    assert found.new == ("a",)
    assert found.turns.count("a") == 4
    assert set(mix(["a", "b", "c"], ["b", "c"], 0.0, 64).turns) == {"a", "b", "c"}
    few = mix([f"c{n:03d}" for n in range(500)], [f"c{n:03d}" for n in range(490)], 0.5, 32)
    assert len(few.new) == 10
    assert len(few.old) == 22


def test_one_round_at_a_time(tmp_path) -> None:
    lock = Lock(tmp_path)
    handle = lock.take()
    lock.name(handle, 42)
    with pytest.raises(Busy, match="a training is already running .process 42"):
        lock.take()
    assert lock.held()
    os.close(handle)
    assert not lock.held()


def test_settings_follow_the_order(job, served) -> None:
    card = load_model(served).card
    settings = plan(job(max_epochs=3, epoch_steps=7), card)
    assert (settings.steps, settings.save_every, settings.batch, settings.interact.share) == (21, 7, 2, 0.0)


def spawn(folder: RoundFolder) -> subprocess.Popen:
    with folder.log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "slem_app.rounds.worker", str(folder.path)],
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def killed(order: Job, moment) -> bool:
    """A round in a process of its own, killed once `moment(folder)` is true; False where it had ended by
    then.
    """
    folder = RoundFolder.make(order, {})
    process = spawn(folder)
    while process.poll() is None and not moment(folder):
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def assert_no_harm(order: Job, bundled: dict[str, bytes]) -> None:
    """A valid model is served, the bundled one is as it was, and the next round comes to its end and leaves
    no rest.
    """
    assert {path.name: path.read_bytes() for path in Path(order.bundled).iterdir()} == bundled
    assert not Lock(Path(order.root)).held()
    loaded = order.published.load()
    assert (loaded.number, loaded.note) == (order.published.served_number(), "")
    assert [one.problem for one in order.published.versions(check=True)] == [""] * len(
        order.published.numbers()
    )
    again = replace(order, served=str(order.published.served()))
    status = run(again).status()
    assert status.status == DONE
    assert status.published == max(order.published.numbers())
    assert not list(order.published.path.glob(".new-*"))
    assert not list((Path(order.root) / "work").iterdir())


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("moment", ["measuring epoch 1", "publishing"])
def test_killed_at_a_moment_it_leaves_no_harm(job, served, moment) -> None:
    before, order = content(served), job(publish="always")
    assert killed(order, lambda folder: folder.status().stage == moment)
    assert_no_harm(order, before)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_ten_random_moments_it_leaves_no_harm(job, served) -> None:
    before, order, draw = content(served), job(publish="always"), random.Random(5)
    begun = time.monotonic()
    killed(order, lambda folder: folder.status().status != RUNNING)
    length = time.monotonic() - begun
    assert order.published.served_number() == 1
    kills = 0
    while kills < 10:
        order, end = (
            replace(order, served=str(order.published.served())),
            time.monotonic() + draw.uniform(0.2, 1) * length,
        )
        if killed(order, lambda _, end=end: time.monotonic() >= end):
            kills += 1
            assert_no_harm(order, before)
        else:
            length *= 0.8  # the machine has become faster


def test_a_full_disk_at_publishing_leaves_the_served_model_and_the_next_round_goes_on(
    job, monkeypatch
) -> None:
    real = published_module.write_record

    def full(folder: Path, record) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(published_module, "write_record", full)
    order = job(publish="always")
    folder = RoundFolder.make(order, {})
    with pytest.raises(StorageFailed):
        Round(folder, "cpu").run()
    assert (folder.status().status, "No space left on device" in folder.status().reason) == (FAILED, True)
    assert (
        order.published.served_number(),
        order.published.numbers(),
        list(order.published.path.glob(".new-*")),
    ) == (0, (0,), [])
    monkeypatch.setattr(published_module, "write_record", real)
    status = run(order).status()
    assert (status.status, status.published, len(status.history)) == (DONE, 1, 3)


def test_a_case_that_is_deleted_while_it_is_trained_on_takes_part_to_the_end(
    job, labelled, tmp_path, monkeypatch
) -> None:
    studies, cases = tmp_path / "studies", []
    shutil.copytree(labelled[0], studies)
    for one in labelled[1]:
        label = Path(shutil.copy(one.label, tmp_path / f"{one.case}.nii.gz"))
        cases.append(replace(one, label=str(label)))
    order, real = job(studies=str(studies), cases=tuple(cases), publish="always"), rounds_module.train

    def deleting(*arguments, **named):
        shutil.rmtree(studies)
        for one in cases:
            Path(one.label).unlink()
        return real(*arguments, **named)

    monkeypatch.setattr(rounds_module, "train", deleting)
    status = run(order).status()
    assert (status.status, status.published, status.skipped) == (DONE, 1, {})


def test_the_process_does_not_import_monailabel() -> None:
    code = (
        "import sys, slem_app.rounds.worker; print(*(m for m in ('monailabel', 'fastapi', 'monai') "
        "if m in sys.modules))"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == ""
    )


def test_an_order_survives_its_file(job, tmp_path) -> None:
    folder = RoundFolder.make(job(), {"max_epochs": 2})
    assert folder.job() == Job(**json.loads(json.dumps(asdict(job()))))
    assert folder.request() == {"max_epochs": 2}
