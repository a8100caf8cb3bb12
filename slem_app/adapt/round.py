"""A learning round on all studies of an archive, labelled or not: the labels there only tell whether the
adapted model may be served.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import replace
from time import time

import numpy as np

from slem_app.adapt.run import AdaptReport, adapt
from slem_app.adapt.settings import AdaptSettings
from slem_app.errors import BadStudy
from slem_app.evaluate.confidence import Observed, fitted_confidence
from slem_app.pretext.cases import Gathered, gather
from slem_app.rounds.labelled import open_studies
from slem_app.rounds.plan import no_larger
from slem_app.rounds.round import Round
from slem_app.rounds.validate import HoldOutScores
from slem_app.training import TrainingFailed, first_process, first_process_first
from slem_app.volumes.cache import CaseCache, fingerprint
from slem_app.weights.fields import from_table, merge, to_table

__all__ = ["ArchiveRound", "fitting_view", "plan", "share_out"]

log = logging.getLogger(__name__)

TRUSTED = 5  # labelled cases from which the comparison means something
MOST_TOLD = 100  # studies that were left out, of which the reason is kept
HELD_OUT = 0.1  # share of the studies on which the agreement is measured


class ArchiveRound(Round):
    """One round in this process, which may be one of several; see `Round`."""

    def _run(self) -> None:
        archive = CaseCache(self.root / "archive")
        with first_process_first():
            found = self._gather(archive)
            measured = self._prepare().ready if self.job.cases else ()
        if not found.ready:
            reasons = "; ".join(f"{case}: {why}" for case, why in list(found.skipped.items())[:3])
            raise BadStudy(f"no study of this archive can be used for training ({reasons or 'it is empty'})")
        if first_process():
            archive.evict(set(found.ready), int(self.job.cache_gb * 2**30))
        ids, held_out = share_out(found.ready)
        settings = plan(self.job.max_epochs * self.job.epoch_steps, self.job.epoch_steps, self.job.settings)
        settings = fitting_view(settings, archive, ids, self.card.network.multiple)
        work = self.root / "work" / fingerprint("archive", self.card.sha256, to_table(settings), ids)
        if first_process():
            self._only(work)
            self.folder.change(stage="training", trusted=len(measured) >= TRUSTED)
        told = _Progress(self, settings)
        try:
            report = adapt(
                self.parent, archive, ids, settings, work, held_out, self.device, on_checkpoint=told
            )
        except TrainingFailed:
            shutil.rmtree(work, ignore_errors=True)  # going on from there would fail the same way
            raise
        if first_process():
            self._hand_over(report, measured, settings)
            shutil.rmtree(work, ignore_errors=True)

    def _gather(self, archive: CaseCache) -> Gathered:
        """Bring the studies into the cache, no more than the job allows."""
        source = open_studies(self.job)
        ids = sorted(source.ids())
        if len(ids) > self.job.most_cases:
            rng = np.random.default_rng(int(fingerprint(self.card.sha256)[:7], 16))
            ids = sorted(rng.choice(ids, self.job.most_cases, replace=False).tolist())
        if first_process():
            self.folder.change(stage=f"preparing {len(ids)} studies", total_epochs=self.job.max_epochs)
        least = AdaptSettings().task.least
        studies = (source.study(case) for case in ids)
        found = gather(studies, archive, self.card.sequences, self.card.preparation, least)
        log.info("%d studies to train on, %d left out", len(found.ready), len(found.skipped))
        if first_process():
            self.folder.change(skipped=dict(list(found.skipped.items())[:MOST_TOLD]))
        return found

    def _hand_over(self, report: AdaptReport, measured: tuple[str, ...], settings: AdaptSettings) -> None:
        """Measure both models on what readers have labelled, and let the gate decide."""
        self.folder.change(stage="measuring the new model", notes=_told(report))
        copies = self.folder.path / "hold-out"
        scores = HoldOutScores(self.studies, measured, self.cache, self.parent, copies, self.device)
        cases: list[Observed] = []
        figures = scores(report.network, again=True, into=cases)
        before = scores(self.parent.network, again=True)
        shutil.rmtree(copies, ignore_errors=True)
        told = {f"hold-out dice {name}": round(value, 4) for name, value in figures.items()}
        told |= {f"agreement, {name}": round(value, 4) for name, value in report.after.items()}
        self.folder.change(stage="publishing", metrics={n: round(v, 4) for n, v in figures.items()})
        decision = self.published.publish(
            replace(
                report.card,
                figures=told,
                confidence=fitted_confidence(cases, report.card.labels, report.card.confidence),
            ),
            report.network,
            figures,
            before,
            detail=self.parent.own_detail,
            editor=self.parent.own_editor,
            parent=self.published.number_of(self.job.served),
            held_out=self._labels(measured),
            settings={**to_table(settings), "name": self.job.name, "studies": len(report.used)},
            round=self.folder.id,
            trusted=len(measured) >= TRUSTED,
            tolerance=self.job.publish_tolerance,
            policy=self.job.publish,
        )
        means = (before.get("mean", 0.0), figures.get("mean", 0.0))
        self._ended(decision, best_metric=round(max(means), 4), history=means)


class _Progress:
    """Tells after every checkpoint how far it is."""

    def __init__(self, round: ArchiveRound, settings: AdaptSettings) -> None:
        self.folder, self.settings, self.begun = round.folder, settings, time()
        self.first = 0

    def __call__(self, step: int) -> None:
        self.first = self.first or step - self.settings.save_every
        each = (time() - self.begun) / max(1, step - self.first)
        epoch = -(-step // self.settings.save_every)
        self.folder.change(epoch=epoch, seconds_left=round(each * (self.settings.steps - step), 1))


def plan(steps: int, save_every: int, changes: Mapping[str, object]) -> AdaptSettings:
    """Settings of so many steps, with some changed.

    Raises:
        BadCard: a setting that there is not.
        BadSetting: a value out of range.
    """
    own = {"steps": steps, "save_every": save_every, **changes}
    what = "an adaptation's settings"
    return from_table(AdaptSettings, merge(to_table(AdaptSettings()), own, what), what)


def fitting_view(
    settings: AdaptSettings, cache: CaseCache, ids: tuple[str, ...], multiple: int
) -> AdaptSettings:
    """The same with a view no larger than the largest case."""
    shapes = [cache.load(case).images.shape[1:] for case in ids]
    i, j, k = (max(2 * multiple, n) for n in no_larger(settings.view.shape, shapes, multiple))
    return replace(settings, view=replace(settings.view, shape=(i, j, k)))


def share_out(ready: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Studies to learn from, and those to measure the agreement on: a tenth of five or more, in the
    order of a hash of their names.
    """
    if len(ready) < 5:
        return ready, ()
    ordered = sorted(ready, key=fingerprint)
    count = max(1, round(HELD_OUT * len(ordered)))
    return tuple(sorted(ordered[count:])), tuple(ordered[:count])


def _told(report: AdaptReport) -> tuple[str, ...]:
    """The agreement in words."""
    return tuple(
        f"{name}: {report.after[name]:.3f} of what the complete study shows is found (Dice), "
        f"{report.before[name]:.3f} before"
        for name in report.after
        if name in report.before
    )
