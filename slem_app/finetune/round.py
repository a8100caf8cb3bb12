"""One learning round: from the served weights and the readers' labels to a model that may be served next.

Whatever happens to it, the served model and the labels are only read; what it makes lies in its own folders until it is published, which is
one rename. A round that was killed is continued by the next one if that has the same weights, labels and settings.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import torch

from slem_app.errors import BadStudy, SlemError, StorageFailed
from slem_app.finetune.cases import CachingReport, cache_cases
from slem_app.finetune.job import DONE, FAILED, Job, RoundFolder
from slem_app.finetune.labelled import LabelledStudies, Mixture, mix
from slem_app.finetune.loop import TrainingFailed, train
from slem_app.finetune.settings import FinetuneSettings
from slem_app.finetune.validate import HoldOutScores
from slem_app.network import Segmenter, build
from slem_app.prompts import channel_count
from slem_app.training import first_process, first_process_first, ranks
from slem_app.volumes.cache import CaseCache, fingerprint
from slem_app.weights import Card, Model, load_model, save_model
from slem_app.weights.fields import from_table, merge, to_table
from slem_app.weights.store import write_file

__all__ = ["Round", "learnt", "plan", "remember"]

log = logging.getLogger(__name__)

MOST_MEASURED = 8  # cases on which every epoch is measured
RATE = 5e-4  # peak learning rate: a quarter of what training from nothing takes


class Round:
    """One round in this process, which may be one of several.

    Args:
        folder: with the order.
        device: torch device of this process.
    """

    def __init__(self, folder: RoundFolder, device: str) -> None:
        self.folder, self.device, self.job = folder, device, folder.job()
        self.root = Path(self.job.root)
        self.parent = load_model(self.job.served)
        self.card = self.parent.card
        self.studies = LabelledStudies(self.job)
        self.cache = CaseCache(self.root / "cache")

    def run(self) -> None:
        """Prepare, train, validate, publish; the outcome stands in the status.

        Raises:
            SlemError: it failed, which the status says too; the checkpoint stays where a next round can use it.
        """
        try:
            self._run()
        except SlemError as error:
            self._failed(str(error))
            raise
        except torch.cuda.OutOfMemoryError as error:
            self._failed(f"the GPU ran out of memory even with one patch a step ({str(error).splitlines()[0]}): free it, or train with device cpu")
            raise

    def _run(self) -> None:
        with first_process_first():
            report = self._prepare()
        if not report.ready:
            raise BadStudy(f"there is no labelled case to train on ({_skipped(report.skipped) or 'none was labelled'}): label some, then train again")
        versions = {one.case: one.version for one in self.job.cases}
        before = learnt(self.root, self.job.model)
        known = [case for case in report.ready if before.get(case) == versions[case]]
        mixture = mix(report.ready, known, self.job.new_share, self.job.most_cases, seed=len(before))
        measured = (*mixture.new, *mixture.old)[:MOST_MEASURED]
        scores = HoldOutScores(self.studies, measured if first_process() else (), self.cache, self.card, self.folder.path / "hold-out", self.device)
        if first_process():
            self.cache.evict({*mixture.turns, *measured}, int(self.job.cache_gb * 2**30))
            self._tell(mixture, report)
        settings = plan(self.job, self.card)
        while True:
            try:
                self._train(settings, mixture, versions, scores)
                return
            except torch.cuda.OutOfMemoryError:
                world = ranks()[1]
                if world > 1 or settings.batch == 1:  # the processes of a group cannot go back one by one
                    raise
                torch.cuda.empty_cache()
                settings = replace(settings, batch=settings.batch // 2)
                self._note(f"the GPU ran out of memory: going on with {settings.batch} patches a step")

    def _prepare(self) -> CachingReport:
        """Bring the labelled cases into the cache."""
        if first_process():
            self.folder.change(stage="preparing", total_epochs=self.job.max_epochs)
        report = cache_cases(self.studies, self.cache, self.card.sequences, self.card.preparation, self.card.labels)
        if first_process():
            for case, why in report.skipped.items():
                log.warning("left out %s: %s", case, why)
            self.folder.change(skipped=dict(report.skipped))
        return report

    def _tell(self, mixture: Mixture, report: CachingReport) -> None:
        log.info("%d new cases, %d old, %d left out", len(mixture.new), len(mixture.old), len(report.skipped))
        self.folder.change(stage="measuring the served model", notes=("the metric is of cases that were trained on: it is not to be trusted yet",))

    def _note(self, text: str) -> None:
        log.warning(text)
        if first_process():
            self.folder.change(notes=(*self.folder.status().notes, text))

    def _train(self, settings: FinetuneSettings, mixture: Mixture, versions: Mapping[str, str], scores: HoldOutScores) -> None:
        used = {case: versions[case] for case in (*mixture.new, *mixture.old)}
        work = self.root / "work" / fingerprint(self.job.model, self.card.sha256, sorted(used.items()), to_table(settings), mixture.turns)
        epochs = _Epochs(self.folder, self.job, self.card, work, scores)
        if first_process():
            for other in work.parent.glob("*") if work.parent.is_dir() else ():
                if other != work:
                    shutil.rmtree(other, ignore_errors=True)
            epochs.begin(self.parent)
        network = build(self.card.network)
        network.load_state_dict(self.parent.network.state_dict())
        try:
            train(network, self.cache, mixture.turns, settings, work, self.device, on_checkpoint=epochs.done, labels=self.card.labels)
        except TrainingFailed:
            shutil.rmtree(work, ignore_errors=True)  # going on from there would fail the same way
            raise
        if first_process():
            self._finish(epochs, used)
            shutil.rmtree(work, ignore_errors=True)

    def _finish(self, epochs: _Epochs, used: Mapping[str, str]) -> None:
        """Hand the best epoch's model over."""
        kept = epochs.kept
        best = load_model(epochs.best)
        figures = {f"hold-out dice {name}": round(value, 4) for name, value in kept["scores"].items()}
        training = f"round {self.folder.id} ({self.job.name}): {len(used)} cases, epoch {kept['epoch']} of {self.job.epoch_steps} steps"
        card = replace(best.card, parent=f"{self.card.name} {self.card.version}", training=training, figures=figures)
        save_model(self.folder.path / "model", card, best.network)
        remember(self.root, self.job.model, used)
        before, after = epochs.history[0], kept["scores"]["mean"]
        self.folder.change(status=DONE, stage="done", reason=f"mean Dice {before:.3f} before, {after:.3f} now", ended=time(), seconds_left=0.0)

    def _failed(self, reason: str) -> None:
        log.error(reason)
        if first_process():
            self.folder.change(status=FAILED, stage="failed", reason=reason, ended=time(), seconds_left=0.0)


class _Epochs:
    """What the first process does after every epoch: measure, keep the best, tell, and decide whether it is enough."""

    def __init__(self, folder: RoundFolder, job: Job, card: Card, work: Path, scores: HoldOutScores) -> None:
        self.folder, self.job, self.card, self.scores = folder, job, card, scores
        self.best, self.record = work / "best", work / "best.json"
        self.history: list[float] = []
        self.kept: dict[str, Any] = {}
        self.begun, self.first = time(), 0

    def begin(self, parent: Model) -> None:
        """Take up what a killed round of the same kind has left, else measure the served model."""
        if self.record.is_file() and (self.best.parent / "checkpoint.pt").is_file():
            self.kept = json.loads(self.record.read_text(encoding="utf-8"))
            self.history, self.first = list(self.kept.pop("history")), self.kept["done"]
            log.info("going on after epoch %d of a round that was cut off", self.first)
        else:
            shutil.rmtree(self.best.parent, ignore_errors=True)
            self.history = [self.scores(parent.network).get("mean", 0.0)]
        self.begun = time()
        self._tell("training", self.first, 0.0)

    def done(self, step: int, network: Segmenter) -> bool:
        """Called after each epoch with the averaged network; True ends the round early."""
        epoch = -(-step // self.job.epoch_steps)
        self.folder.change(stage=f"measuring epoch {epoch}")
        found = self.scores(network)
        self.history.append(found["mean"])
        if not self.kept or found["mean"] > self.kept["scores"]["mean"]:
            save_model(self.best, replace(self.card, file="", sha256=""), network)
            self.kept = {"epoch": epoch, "scores": found}
        self.kept["done"] = epoch
        write_file(self.record, json.dumps({**self.kept, "history": self.history}).encode())
        log.info("epoch %d of %d: mean Dice %.4f (best %.4f)", epoch, self.job.max_epochs, found["mean"], max(self.history))
        each = (time() - self.begun) / max(1, epoch - self.first)
        self._tell("training", epoch, each * (self.job.max_epochs - epoch))
        return 0 <= self.job.early_stop_patience <= epoch - self.kept["epoch"] and epoch > self.kept["epoch"]

    def _tell(self, stage: str, epoch: int, left: float) -> None:
        scores = {name: round(value, 4) for name, value in self.kept.get("scores", {}).items()}
        best = min(1.0, max(0.0, *self.history))
        self.folder.change(stage=stage, epoch=epoch, best_metric=round(best, 4), metrics=scores, history=tuple(self.history), seconds_left=round(left, 1))


def plan(job: Job, card: Card) -> FinetuneSettings:
    """Settings of the training that a job asks for.

    Raises:
        BadCard: a setting that there is not.
        BadSetting: a value out of range.
    """
    interact = {"share": 0.5} if card.network.prompts == channel_count(card.labels) else {}
    own = {"rate": RATE, "batch": max(2, job.processes), "interact": interact, "save_every": job.epoch_steps, "steps": job.max_epochs * job.epoch_steps}
    table = merge(to_table(FinetuneSettings()), {**own, **job.settings}, "a round's settings")
    return from_table(FinetuneSettings, table, "a round's settings")


def learnt(root: Path, model: str) -> dict[str, str]:
    """Case -> version of its label that a finished round of this model has learnt last."""
    return _learnt(root).get(model, {})


def remember(root: Path, model: str, used: Mapping[str, str]) -> None:
    """Note which labels a finished round has learnt.

    Raises:
        StorageFailed: the disk refused.
    """
    everything = {**_learnt(root), model: {**learnt(root, model), **used}}
    try:
        write_file(root / "learnt.json", json.dumps(everything, indent=1).encode())
    except OSError as error:
        raise StorageFailed(f"{root / 'learnt.json'} could not be written: {error.strerror or error}: free space") from error


def _learnt(root: Path) -> dict[str, dict[str, str]]:
    path = root / "learnt.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _skipped(skipped: Mapping[str, str]) -> str:
    return "; ".join(f"left out {case}: {why}" for case, why in skipped.items())
