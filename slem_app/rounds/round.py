"""One learning round: from the served weights and the readers' labels to a model that is served next, if it
is not worse on the hold-out.

Whatever happens to it, the served model and the labels are only read; what it makes lies in its own folders
until it is published, which is one rename. A round that was killed is continued by the next one if that has
the same weights, labels and settings.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any

import torch

from slem_app.errors import BadStudy, NoMemory, SlemError, StorageFailed
from slem_app.finetune.cases import CachingReport, cache_cases
from slem_app.finetune.loop import TrainingFailed, train
from slem_app.finetune.settings import FinetuneSettings
from slem_app.network import Segmenter, build
from slem_app.prompts import channel_count
from slem_app.rounds.epochs import Epochs
from slem_app.rounds.holdout import HoldOut, split
from slem_app.rounds.job import DONE, FAILED, Job, RoundFolder
from slem_app.rounds.labelled import LabelledStudies, Mixture, mix
from slem_app.rounds.second_look import learnt_again
from slem_app.rounds.validate import HoldOutScores
from slem_app.training import first_process, first_process_first, ranks
from slem_app.volumes.cache import CaseCache, fingerprint
from slem_app.weights import Card, Model, load_model
from slem_app.weights.fields import from_table, merge, to_table
from slem_app.weights.version import Decision

__all__ = ["Round", "plan"]

log = logging.getLogger(__name__)

MOST_WITHOUT = 8  # cases that were trained on are measured where none is held out; so many
RATE = 5e-4  # peak learning rate: a quarter of what training from nothing takes


@dataclass(frozen=True)
class Material:
    """What a round works with."""

    mixture: Mixture
    """Cases to train on."""
    hold_out: HoldOut
    """Which cases are held out."""
    measured: tuple[str, ...]
    """Cases to measure on: those held out, else some that are trained on."""
    seed: int
    """Of all draws: the same when the round is done again after a kill, another after it has come to its end.
    """


class Round:
    """One round in this process, which may be one of several.

    Args:
        folder: with the order.
        device: torch device of this process.
    """

    def __init__(self, folder: RoundFolder, device: str) -> None:
        self.folder, self.device, self.job = folder, device, folder.job()
        self.root = Path(self.job.root)
        self.published = self.job.published
        self.parent = load_model(self.job.served)
        self.card = self.parent.card
        self.studies = LabelledStudies(self.job)
        self.cache = CaseCache(self.root / "cache")
        self.versions = {one.case: one.version for one in self.job.cases}
        self.confirmed = {one.case for one in self.job.cases if one.confirmed}

    def run(self) -> None:
        """Prepare, train, validate, publish; the outcome stands in the status.

        Raises:
            SlemError: it failed, which the status says too; the checkpoint stays where a next round can use
                it.
        """
        try:
            self._run()
        except SlemError as error:
            self._failed(str(error))
            raise
        except torch.cuda.OutOfMemoryError as error:
            self._failed(
                f"the GPU ran out of memory even with one patch a step "
                f"({str(error).splitlines()[0]}): free "
                f"it, or train with device cpu"
            )
            raise
        except OSError as error:
            reason = (
                f"a file could not be written or read ({error}): free space, or put it back, then train again"
            )
            self._failed(reason)
            raise StorageFailed(reason) from error

    def _run(self) -> None:
        with first_process_first():
            report = self._prepare()
            if not report.ready:
                raise BadStudy(
                    f"there is no labelled case to train on "
                    f"({_skipped(report.skipped) or 'none was labelled'}): label some, then train again"
                )
            material = self._material(report)
        copies = self.folder.path / "hold-out"
        scores = HoldOutScores(
            self.studies,
            material.measured if first_process() else (),
            self.cache,
            self.parent,
            copies,
            self.device,
        )
        if first_process():
            self.cache.evict({*material.mixture.turns, *material.measured}, int(self.job.cache_gb * 2**30))
            self._tell(material, report, scores)
        settings = plan(
            self.job,
            self.card,
            material.seed,
            [self.cache.load(case).grid.shape for case in material.mixture.turns],
        )
        while True:
            try:
                self._train(settings, material, scores)
                shutil.rmtree(copies, ignore_errors=True)
                return
            except (torch.cuda.OutOfMemoryError, NoMemory):  # in a step, or when the hold-out was measured
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
        report = cache_cases(
            self.studies, self.cache, self.card.sequences, self.card.preparation, self.card.labels
        )
        if first_process():
            for case, why in report.skipped.items():
                log.warning("left out %s: %s", case, why)
            self.folder.change(skipped=dict(report.skipped))
        return report

    def _material(self, report: CachingReport) -> Material:
        """Divide the cases, the same in every process."""
        weight = self.job.confirmed_weight
        ready = [case for case in report.ready if weight > 0 or case not in self.confirmed]
        if not ready:
            raise BadStudy(
                "all labels are a model's own results which a reader confirmed without a change, and "
                "confirmed_weight is 0: correct some, then train again"
            )
        hold_out = split(ready, self.job.hold_out_file, self.job.hold_out_share)
        if not hold_out.train:
            raise BadStudy(hold_out.note)
        refused = self.published.refused()
        seed = int(fingerprint(self.card.sha256, refused[-1].folder.name if refused else "")[:7], 16)
        before = self.published.learnt(self.published.number_of(self.job.served))
        known = [case for case in hold_out.train if before.get(case) == self.versions[case]]
        mixture = mix(
            hold_out.train,
            known,
            self.job.new_share,
            self.job.most_cases,
            seed,
            sorted(self.confirmed),
            weight or 1.0,
        )
        # those that every epoch is measured on come first: in an order that stays when cases are added
        held = tuple(sorted(hold_out.validate, key=fingerprint))
        return Material(mixture, hold_out, held or (*mixture.new, *mixture.old)[:MOST_WITHOUT], seed)

    def _tell(self, material: Material, report: CachingReport, scores: HoldOutScores) -> None:
        mixture, hold_out = material.mixture, material.hold_out
        log.info(
            "%d new cases, %d old, %d held out, %d left out",
            len(mixture.new),
            len(mixture.old),
            len(hold_out.validate),
            len(report.skipped),
        )
        gone = [f"{case} is not measured: {why}" for case, why in scores.left_out.items()]
        notes = tuple(note for note in (hold_out.note, self._confirmed_note(hold_out), *gone) if note)
        for note in notes:
            log.warning(note)
        self.folder.change(trusted=hold_out.trusted, notes=notes)

    def _confirmed_note(self, hold_out: HoldOut) -> str:
        """How many labels were only confirmed, and what that means for the metric; empty where none was."""
        if not self.confirmed:
            return ""
        count, weight = len(self.confirmed), self.job.confirmed_weight
        told = f"{count} of {len(self.versions)} labels are a model's own result that a reader only confirmed"
        if not weight:
            return f"{told}: they are neither learnt nor measured on"
        held = len(self.confirmed & set(hold_out.validate))
        flatters = (
            f"; {held} of {len(hold_out.validate)} held-out labels are: the metric flatters" if held else ""
        )
        return f"{told}: seen {weight:g} times as often as the others{flatters}"

    def _note(self, text: str) -> None:
        log.warning(text)
        if first_process():
            self.folder.change(notes=(*self.folder.status().notes, text))

    def _train(self, settings: FinetuneSettings, material: Material, scores: HoldOutScores) -> None:
        used = self._labels((*material.mixture.new, *material.mixture.old))
        measured = self._labels(material.measured)
        turns = material.mixture.turns
        work = (
            self.root
            / "work"
            / fingerprint(self.job.model, self.card.sha256, used, measured, to_table(settings), turns)
        )
        epochs = Epochs(self.folder, self.job, self.parent, work, scores)
        if first_process():
            self._only(work)
            epochs.begin()
        network = build(self.card.network)
        network.load_state_dict(self.parent.network.state_dict())
        try:
            card = self.card
            train(
                network,
                self.cache,
                turns,
                settings,
                work,
                self.device,
                on_checkpoint=epochs.done,
                labels=card.labels,
                mirrors=card.mirrors,
            )
        except TrainingFailed:
            shutil.rmtree(work, ignore_errors=True)  # going on from there would fail the same way
            raise
        finer = self._second_look(settings, turns, work, epochs)
        if first_process():
            self._publish(epochs, material, used, settings, finer)
            shutil.rmtree(work, ignore_errors=True)

    def _second_look(
        self, settings: FinetuneSettings, turns: Sequence[str], work: Path, epochs: Epochs
    ) -> Segmenter | None:
        """What looks again, after as many steps as the best epoch of the first network; None where the model
        has nothing of the kind.
        """
        if self.parent.detail is None:
            return None
        if first_process():
            self.folder.change(stage="training the second look")
        steps = epochs.kept().epoch * self.job.epoch_steps
        cache = CaseCache(self.root / "cache-detail")
        if first_process():
            cache.evict(set(turns), int(self.job.cache_gb * 2**30))
        own = replace(settings, steps=steps)
        return learnt_again(self.parent.detail, self.studies, cache, turns, own, work / "detail", self.device)

    def _labels(self, cases: tuple[str, ...]) -> dict[str, str]:
        """Case -> version of its label."""
        return {case: self.versions[case] for case in sorted(cases)}

    def _publish(
        self,
        epochs: Epochs,
        material: Material,
        used: Mapping[str, str],
        settings: FinetuneSettings,
        finer: Segmenter | None,
    ) -> None:
        """Measure the best epoch's model as it is stored, and hand it over."""
        best = load_model(epochs.model)
        held, figures, before = material.hold_out.validate, {}, {}
        if held:
            self.folder.change(stage="measuring the new model")
            figures = epochs.scores(best.network, again=True)
            before = epochs.scores(self.parent.network, again=True)
            if finer is not None:
                both = epochs.scores(best.network, again=True, finer=finer)
                figures, finer = (both, finer) if both["mean"] >= figures["mean"] else (figures, None)
        told = {f"hold-out dice {name}": round(value, 4) for name, value in figures.items()}
        training = (
            f"round {self.folder.id} ({self.job.name}): {len(used)} cases, epoch {epochs.best.epoch} "
            f"of {self.job.epoch_steps} steps"
        )
        self.folder.change(stage="publishing")
        decision = self.published.publish(
            # what its parent's probabilities were worth is not known of its own
            replace(
                best.card,
                training=training,
                figures=told,
                confidence=replace(best.card.confidence, logits={}, dice={}),
            ),
            best.network,
            figures,
            before,
            detail=self._detail(finer, training),
            parent=self.published.number_of(self.job.served),
            labels=used,
            held_out=self._labels(held),
            settings={
                **to_table(settings),
                "name": self.job.name,
                "epochs": epochs.best.done,
                "best_epoch": epochs.best.epoch,
            },
            round=self.folder.id,
            trusted=material.hold_out.trusted,
            tolerance=self.job.publish_tolerance,
            policy=self.job.publish,
        )
        self._ended(decision)

    def _detail(self, finer: Segmenter | None, training: str) -> Model | None:
        """What is to look again from now on: the new network, or the one that the parent has of its own; None
        where it is the one that the card names.
        """
        detail = self.parent.detail
        if detail is None or (finer is None and detail.folder != self.parent.folder):
            return None
        if finer is None:
            return detail
        card = replace(detail.card, training=training, parent=f"{detail.card.name} {detail.card.version}")
        return replace(detail, card=card, network=finer)

    def _only(self, work: Path) -> None:
        """Take away what rounds of other settings have left."""
        for other in work.parent.glob("*") if work.parent.is_dir() else ():
            if other != work:
                shutil.rmtree(other, ignore_errors=True)

    def _ended(self, decision: Decision, **told: Any) -> None:
        """Say what became of the round's model, and what else is `told` in the status."""
        served = f"version {decision.number} is served: " if decision.published else ""
        self.folder.change(
            status=DONE,
            stage="done",
            reason=f"{served}{decision.reason}",
            published=decision.number,
            ended=time(),
            seconds_left=0.0,
            **told,
        )

    def _failed(self, reason: str) -> None:
        log.error(reason)
        if first_process():
            self.folder.change(status=FAILED, stage="failed", reason=reason, ended=time(), seconds_left=0.0)


def plan(job: Job, card: Card, seed: int = 0, shapes: Sequence[Sequence[int]] = ()) -> FinetuneSettings:
    """Settings of the training that a job asks for, its patches and views no larger than the cases, which are
    of these `shapes`.

    Raises:
        BadCard: a setting that there is not.
        BadSetting: a value out of range.
    """
    interact = {"share": 0.5} if card.network.prompts == channel_count(card.labels) else {}
    own = {
        "rate": RATE,
        "batch": max(2, job.processes),
        "interact": interact,
        "save_every": job.epoch_steps,
        "steps": job.max_epochs * job.epoch_steps,
    }
    table = merge(to_table(FinetuneSettings()), {**own, "seed": seed, **job.settings}, "a round's settings")
    settings, multiple = from_table(FinetuneSettings, table, "a round's settings"), card.network.multiple
    if not shapes or "patch" in job.settings:
        return settings
    i, j, k = (
        min(n, -(-max(shape[axis] for shape in shapes) // multiple) * multiple)
        for axis, n in enumerate(settings.patch)
    )
    patch = (i, j, k) if max(i, j, k) > multiple else (2 * multiple, j, k)  # the least that a network takes
    views = tuple(v for v in settings.interact.views if v <= min(patch)) or (min(patch),)
    return replace(settings, patch=patch, interact=replace(settings.interact, views=views))


def _skipped(skipped: Mapping[str, str]) -> str:
    return "; ".join(f"left out {case}: {why}" for case, why in skipped.items())
