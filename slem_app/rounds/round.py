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
from dataclasses import replace
from pathlib import Path
from time import time
from typing import Any

import torch

from slem_app.errors import BadStudy, NoMemory, SlemError, StorageFailed
from slem_app.evaluate.confidence import Observed, fitted_confidence
from slem_app.finetune.cases import CachingReport, cache_cases
from slem_app.finetune.editing.settings import EditorSettings
from slem_app.finetune.editing.starts import Starts
from slem_app.finetune.loop import TrainingFailed, train
from slem_app.finetune.settings import FinetuneSettings
from slem_app.network import Segmenter, build
from slem_app.rounds.clicks import ClickScores
from slem_app.rounds.editor import editor_learnt, with_corrections
from slem_app.rounds.epochs import Epochs
from slem_app.rounds.holdout import HoldOut
from slem_app.rounds.interpolate import interpolated_if_better
from slem_app.rounds.job import DONE, FAILED, RoundFolder
from slem_app.rounds.labelled import LabelledStudies
from slem_app.rounds.material import Material, divided
from slem_app.rounds.plan import plan
from slem_app.rounds.second_look import learnt_again
from slem_app.rounds.validate import HoldOutScores
from slem_app.training import first_process, first_process_first, ranks
from slem_app.volumes.cache import CaseCache, fingerprint
from slem_app.weights import EditorModel, Model, load_model
from slem_app.weights.fields import to_table
from slem_app.weights.version import Decision

__all__ = ["Round"]

log = logging.getLogger(__name__)


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
                f"the GPU ran out of memory even with one patch per step ({str(error).splitlines()[0]}): "
                "free memory, or train with device cpu"
            )
            raise
        except OSError as error:
            reason = (
                f"a file could not be written or read ({error}): free space, or restore the file, then "
                "train again"
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
            material = divided(self.job, self.card.sha256, report.ready)
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
                self._note(f"the GPU ran out of memory: continuing with {settings.batch} patches per step")

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
        told = f"{count} of {len(self.versions)} labels are model results that readers only confirmed"
        if not weight:
            return f"{told}: they are used neither for training nor for the hold-out"
        held = len(self.confirmed & set(hold_out.validate))
        caution = (
            f"; so are {held} of the {len(hold_out.validate)} held-out labels: the metric may be too high"
            if held
            else ""
        )
        return f"{told}: used {weight:g} times as often as the others{caution}"

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
        editor = self._editor(settings, material, work, epochs)
        if first_process():
            self._publish(epochs, material, used, settings, finer, editor)
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

    def _editor(
        self, settings: FinetuneSettings, material: Material, work: Path, epochs: Epochs
    ) -> EditorModel | None:
        """The editor after as many steps; None where the model has none, no reader has corrected anything, or
        it could not be told whether it is better.
        """
        turns = material.mixture.turns
        if self.parent.editor is None or not with_corrections(self.studies, turns):
            return None
        if not material.hold_out.validate:
            self._note("the editor is not trained: no case is held out to measure clicks on")
            return None
        if first_process():
            self.folder.change(stage="training the editor")
        steps = epochs.kept().epoch * self.job.epoch_steps
        every = self.job.epoch_steps
        own = EditorSettings(steps=steps, batch=settings.batch, seed=settings.seed, save_every=every)
        starts = Starts(self.root / "cache-editor")
        try:
            return editor_learnt(self.parent, self.studies, starts, turns, own, work, self.device)
        except TrainingFailed as error:
            self._note(f"the editor could not be trained, so the previous one is kept: {error}")
            return None

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
        editor: EditorModel | None,
    ) -> None:
        """Measure the best epoch's model as it is stored, and hand it over."""
        best = load_model(epochs.model)
        held, figures, before = material.hold_out.validate, {}, {}
        cases: list[Observed] = []
        if held:
            self.folder.change(stage="measuring the new model")
            figures = epochs.scores(best.network, again=True, into=cases)
            best, figures, cases, note = interpolated_if_better(
                self.parent, best, figures, cases, epochs.scores
            )
            if note:
                self._note(note)
            before = epochs.scores(self.parent.network, again=True)
            if finer is not None:
                anew: list[Observed] = []
                both = epochs.scores(best.network, again=True, finer=finer, into=anew)
                if both["mean"] >= figures["mean"]:
                    figures, cases = both, anew
                else:
                    finer = None
        editor, clicked = self._better(editor, best, finer, epochs)
        told = {f"hold-out dice {name}": round(value, 4) for name, value in (figures | clicked).items()}
        training = (
            f"round {self.folder.id} ({self.job.name}): {len(used)} cases, epoch {epochs.best.epoch} "
            f"of {self.job.epoch_steps} steps"
        )
        self.folder.change(stage="publishing")
        decision = self.published.publish(
            replace(
                best.card,
                training=training,
                figures=told,
                confidence=fitted_confidence(cases, best.card.labels, best.card.confidence),
            ),
            best.network,
            figures,
            before,
            detail=self._detail(finer, training),
            editor=self._new_editor(editor, training),
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

    def _better(
        self, editor: EditorModel | None, best: Model, finer: Segmenter | None, epochs: Epochs
    ) -> tuple[EditorModel | None, dict[str, float]]:
        """The new editor and what clicks bring with it, if that is not less than with the one of before on
        the results of the round's own networks; else None and nothing.
        """
        before = self.parent.editor
        if editor is None or before is None:
            return None, {}
        self.folder.change(stage="measuring the editor")
        detail = self.parent.detail
        if detail is not None and finer is not None:
            detail = replace(detail, network=finer)
        old, new = ClickScores(epochs.scores)(replace(best, detail=detail), (before, editor))
        counts = [name for name in new if name != "mean"]
        told = " and ".join(f"{new[name]:.4f} {name} (before {old[name]:.4f})" for name in counts)
        better = new["mean"] >= old["mean"]
        verdict = "the new editor is served with the new model" if better else "the previous editor is kept"
        self._note(f"mean Dice {told} on the hold-out: {verdict}")
        return (editor, {name: new[name] for name in counts}) if better else (None, {})

    def _detail(self, finer: Segmenter | None, training: str) -> Model | None:
        """What is to look again from now on: the new network, or the one that the parent has of its own; None
        where it is the one that the card names.
        """
        detail = self.parent.detail
        if detail is None or finer is None:
            return self.parent.own_detail
        card = replace(detail.card, training=training, parent=f"{detail.card.name} {detail.card.version}")
        return replace(detail, card=card, network=finer)

    def _new_editor(self, editor: EditorModel | None, training: str) -> EditorModel | None:
        """What is to answer prompts from now on, likewise."""
        before = self.parent.editor
        if editor is None or before is None:
            return self.parent.own_editor
        told = f"{before.card.name} {before.card.version}, then {training}"
        return replace(editor, card=replace(editor.card, training=told))

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


def _skipped(skipped: Mapping[str, str]) -> str:
    return "; ".join(f"left out {case}: {why}" for case, why in skipped.items())
