"""The label of a patient's earlier visit, laid on the image that a reader works on. Brought up to date by
what the model sees at both visits, it is what a reader begins with, if they ask for it.

Only a final label that counts is carried over, and only where the registration of the two visits is to be
believed. The visits are registered once; carrying a label over takes no time beside that.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace

import numpy as np

from slem_app.errors import BadLabel, BadSetting, BadStudy, NotFound
from slem_app.labels import LabelSet
from slem_app.prompts import Mask
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.cases.case import Case
from slem_app.serving.cases.catalogue import Cases
from slem_app.serving.labels.datastore import CaseDatastore
from slem_app.serving.models.byte_cache import ByteCache
from slem_app.serving.models.compute import EarlierLabel
from slem_app.serving.models.inference import PRIOR, InferAnswer, InferRequest
from slem_app.serving.models.interactive import InteractiveTask
from slem_app.serving.models.last_result import LastResults
from slem_app.serving.models.segment import SegmentationTask
from slem_app.store.case_labels import CaseLabels, LabelledCase
from slem_app.studies.patients import Visit, patient_of
from slem_app.volumes.read import read
from slem_app.volumes.visits import Move, carry, move_between, shared_sequence

__all__ = ["Prior", "Priors"]

MOVES = 2**20  # bytes of registrations that are kept
MOVE = 512  # bytes of one


@dataclass(frozen=True, eq=False)
class Prior:
    """An earlier visit's label on a later image."""

    visit: Visit
    """Whose label it is."""
    label: str
    """Which version, 'CASE/final/2'."""
    array: np.ndarray
    """(I, J, K) label values of the model, on the later image's grid."""
    move: Move
    """How the visits were laid on each other."""
    doubts: tuple[str, ...]
    """What a reader should know, in sentences."""
    earlier: LabelledCase
    """The earlier visit."""
    given: Mask
    """Its label as it lies there, in the model's values."""

    @property
    def text(self) -> str:
        """For the reader."""
        when = f" of {self.visit.when}" if self.visit.when else ""
        return (
            f"begins with the final label of {self.visit.case}{when}, moved by {self.move.distance:.1f} mm "
            f"on average and changed where the model sees a change"
        )


class Priors:
    """Priors of a server's cases.

    Args:
        cases: where cases and patients are found.
        datastore: the labels.
        last_results: is told what a reader has begun with.
    """

    def __init__(self, cases: Cases, datastore: CaseDatastore, last_results: LastResults) -> None:
        self.cases, self.datastore, self.last_results = cases, datastore, last_results
        self.moves: ByteCache[Move] = ByteCache(MOVES, _bytes)
        self.turn = threading.Lock()  # visits are registered one pair at a time: it takes a core for seconds

    def answer(
        self, task: SegmentationTask | InteractiveTask, case: Case, request: InferRequest
    ) -> InferAnswer:
        """The task's answer, begun with the prior where the request asks for it.

        A request that repeats the wish, as clients do with an option that stays chosen, begins once: not
        again while there are clicks, nor over a segmentation that the client sends.

        Raises:
            BadSetting: the model follows no clicks.
            NotFound, BadLabel, BadStudy: there is no prior that can be used.
            SlemError: as the task.
        """
        reader = reader_of(request.client_id)
        wanted = request.start_from == PRIOR
        if wanted and not isinstance(task, InteractiveTask):
            raise BadSetting("start_from=prior needs a model that follows clicks: use NAME_clicks")
        untouched = wanted and isinstance(task, InteractiveTask) and not task.placed(reader, case.id)
        begins = wanted and (request.start_over or (untouched and not (request.undo or request.redo)))
        if not begins or request.label_file is not None:
            answer = task(case, request)
            if request.start_over and case.lasting:
                self.last_results.began_with(reader, case.id, "")
            return answer
        assert isinstance(task, InteractiveTask)  # looked at above
        prior = self.of(case, task.predictor.card.labels)
        start = Mask(np.asfortranarray(self._today(task, case, prior, reader)), case.series.grid)
        answer = task(case, replace(request, start=start, start_over=True))
        if case.lasting:
            self.last_results.began_with(reader, case.id, prior.label)
        notes = (prior.text, *prior.doubts, *answer.facts.notes)
        return replace(answer, facts=replace(answer.facts, notes=notes))

    def of(self, case: Case, labels: LabelSet) -> Prior:
        """The prior of the image that a case stands for.

        Args:
            case: the later visit.
            labels: of the model.

        Raises:
            NotFound: no earlier visit has a final label that counts.
            BadLabel: that label is of another kind than the model's.
            BadStudy: the patient has several names, or the visits cannot be laid on each other.
            BadGrid, BadVolume: label or images cannot be used.
        """
        visit, earlier, doubts = self._earlier(case)
        array, grid = earlier.label()
        try:
            array = labels.remap(array, dict(enumerate(earlier.names, 1)))
        except BadLabel as error:
            raise BadLabel(
                f"the label of the earlier visit {visit.case} does not fit this model: {error}"
            ) from error
        move = self._move(case, earlier)
        if move.doubt:
            raise BadStudy(
                f"the label of {visit.case} cannot be carried over: {move.doubt}. Is it the same patient, "
                f"and is the examination complete?"
            )
        carried = carry(array, grid, move.matrix, case.series.grid)
        version = earlier.version
        name = f"{visit.case}/{version.tag}/{version.number}"
        return Prior(visit, name, carried, move, doubts, earlier, Mask(array, grid))

    def _today(self, task: InteractiveTask, case: Case, prior: Prior, reader: str) -> np.ndarray:
        """(I, J, K) the prior, changed where the reader's version of the model sees a change."""
        predictor = task.served.begun_with(reader, case.id)
        earlier = prior.earlier
        images = self._labels().images(earlier.id, earlier.version.sequence)
        given = EarlierLabel(images, earlier.sequence, prior.given, prior.move.matrix)
        return task.compute.brought_up_to_date(case, predictor, given)

    def _labels(self) -> CaseLabels:
        """The labels with the studies that they are of."""
        datastore = self.datastore
        return CaseLabels(
            str(self.cases.studies), datastore.root, experts=datastore.experts, source=self.cases.source
        )

    def _earlier(self, case: Case) -> tuple[Visit, LabelledCase, tuple[str, ...]]:
        """The last visit before a case's that has a final label which counts."""
        source = self.cases.source
        if source is None or case.id not in source.ids():
            raise NotFound(f"{case.id} is an upload: its patient and earlier visits are not known")
        patient = patient_of(source, case.id)
        if patient.mixed:
            raise BadStudy(
                f"{patient.doubts[0]} No label is carried over; slem.yaml may say by its key `patients` "
                "which studies belong to one patient"
            )
        for visit in reversed(patient.earlier(case.id)):
            if self.datastore.store.has_final(visit.case):
                return visit, self._labels().labelled(visit.case), patient.doubts
        doubts = f" ({' '.join(patient.doubts)})" if patient.doubts else ""
        raise NotFound(f"no earlier visit of the patient of {case.id} has a final label{doubts}")

    def _move(self, case: Case, earlier: LabelledCase) -> Move:
        """How the earlier visit lies on the later one; made once for two studies as they are."""
        later = case.grouping.sequences
        sequence = shared_sequence((earlier.sequence, *later), tuple(later), tuple(earlier.images))
        now, before = later[sequence], earlier.images[sequence]
        key, state = (case.id, earlier.id, sequence), (now.state, before.state)
        with self.turn:
            move = self.moves.get(key, state)
            if move is None:
                move = move_between(read(now), read(before), sequence)
                self.moves.put(key, state, move)
        return move


def _bytes(move: Move) -> int:
    return MOVE
