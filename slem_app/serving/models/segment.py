"""One model that segments without the reader: request fields in, a label map on the grid of the requested
image out.

MONAI Label's own pipeline sees one file and breaks geometry, so only its interface is used. What a request
costs is in the reply's `latencies`: read (files to arrays), prepare (to the network's grid), network, restore
(to the image's grid), write. Prepared volumes are kept, so a second request for any sequence of a case is
spared read and prepare.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from slem_app.files import runs
from slem_app.formats import write_nifti, write_nrrd
from slem_app.labels import CHECK_HERE
from slem_app.predict import Prediction, Predictor, given
from slem_app.predict.check_here import Doubts
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.cases.case import Case
from slem_app.serving.models.compute import Compute
from slem_app.serving.models.inference import InferAnswer, InferFacts, InferRequest, Reply
from slem_app.serving.models.last_result import AUTOMATIC, LastResults, ResultOrigin
from slem_app.serving.models.task_kind import TaskKind
from slem_app.serving.models.versions import ServedVersions
from slem_app.trust import Trust
from slem_app.types import Grid
from slem_app.volumes.geometry import cropped, resample
from slem_app.weights import Card

__all__ = ["SegmentationTask", "origin", "results_folder"]

logger = logging.getLogger(__name__)


class SegmentationTask:
    """A model that segments cases without interaction.

    Args:
        served: the model on its device, in the version that is served.
        compute: prepares and segments.
        results: folder for result files, which MONAI Label removes once they are sent.
        last_results: told what each reader gets.
    """

    def __init__(
        self,
        served: ServedVersions,
        compute: Compute,
        results: Path,
        last_results: LastResults | None = None,
    ) -> None:
        card = served.now.card
        self.kind = TaskKind.SEGMENTATION
        self.labels = {label.name: label.value for label in card.labels.labels}
        self.description = card.description
        self.sequences = card.sequences
        self.served = served
        self.compute = compute
        self.results = results
        self.last_results = last_results

    @property
    def predictor(self) -> Predictor:
        """The version that is served now."""
        return self.served.now

    @property
    def weights(self) -> Path:
        """The weight file of that version."""
        predictor = self.predictor
        return predictor.model.folder / predictor.card.file

    def __call__(self, case: Case, request: InferRequest) -> InferAnswer:
        """Segment a case.

        Raises:
            SlemError: anything about the case or the request that cannot be used.
        """
        start = time.perf_counter()
        reader = reader_of(request.client_id)
        predictor = self.served.automatic(reader, case.id)
        result, timings = self.compute.automatic(case, predictor, keep=not request.save_label)
        prediction = replace(given(result.prediction), timings=timings)
        begin = time.perf_counter()
        card = predictor.card
        marked = not request.save_label and (request.check_here or card.confidence.segment)
        shown = self._marked(prediction, self.compute.doubts(case, predictor)) if marked else prediction
        path = self.write(shown, case.displayed, request.reply)
        prediction = replace(prediction, warnings=(*case.warnings, *prediction.warnings))
        self.note(reader, case, origin(AUTOMATIC, predictor.card, prediction), prediction.array)
        now = time.perf_counter()
        timings |= {"write": now - begin, "total": now - start}
        latencies = {step: round(seconds, 4) for step, seconds in timings.items()}
        logger.info(
            "%s: %s/%s from %s: %s",
            predictor.card.name,
            case.id,
            case.sequence,
            ", ".join(prediction.used),
            latencies,
        )
        names = {label.name: label.value for label in shown.labels.labels}
        facts = replace(self.facts(case, prediction, card), label_names=names, latencies=latencies)
        return InferAnswer(prediction, facts, path)

    def doubts(self, case: Case, reader: str) -> tuple[Doubts, Card]:
        """How doubtful each voxel of the automatic result is, on the displayed image's grid, and whose result
        it is.

        Raises:
            BadSetting: the model does not say.
            SlemError: anything about the case that cannot be used.
        """
        predictor = self.served.automatic(reader, case.id)
        return self.compute.doubts(case, predictor), predictor.card

    @staticmethod
    def _marked(prediction: Prediction, doubts: Doubts) -> Prediction:
        """The result with one more label over the places where it is likely wrong."""
        labels = prediction.labels.with_label(CHECK_HERE)
        array = np.where(doubts.places, np.uint8(len(labels.labels)), prediction.array)
        return replace(prediction, array=np.asfortranarray(array), labels=labels)

    def note(self, reader: str, case: Case, origin: ResultOrigin, array: np.ndarray) -> None:
        """Note what a reader is given of a case."""
        if self.last_results is not None and case.lasting:
            self.last_results.note(reader, case, origin, array)

    def moves(self, case: Case) -> Mapping[str, np.ndarray]:
        """How the case's sequences were moved, see `Prepared.moves`.

        Raises:
            SlemError: anything about the case that cannot be used.
        """
        known = self.known_moves(case, self.predictor)
        return self.compute.prepare(case, self.predictor)[0] if known is None else known

    def known_moves(self, case: Case, predictor: Predictor) -> Mapping[str, np.ndarray] | None:
        """The same, where a version's network has seen the case; else None."""
        return self.compute.known_moves(case, predictor)

    def write(self, prediction: Prediction, displayed: Grid, reply: Reply | None) -> Path | None:
        """The result as a file of the wanted type; None where none is wanted.

        Args:
            prediction: the result.
            displayed: grid of the image as the client has it: the same voxels, in another order as it may be.
            reply: what is wanted.
        """
        if reply is None:
            return None
        array = prediction.array
        if not prediction.grid.same_as(displayed):
            array = resample(array, prediction.grid, displayed, order=0)
        if reply.crop:
            array, displayed = cropped(array, displayed)
        path = self.results / f"{uuid.uuid4().hex}{reply.extension}"
        if reply.extension == ".nrrd":
            write_nrrd(array, displayed, prediction.labels, path, compress=reply.compress, durable=False)
        else:
            write_nifti(array, displayed, prediction.labels, path, durable=False)
        return path

    def facts(self, case: Case, prediction: Prediction, card: Card) -> InferFacts:
        """What the client is told beside the label map, which the model of `card` has made."""
        return InferFacts(
            label_names={label.name: label.value for label in card.labels.labels},
            case=case.id,
            sequence=case.sequence,
            used=tuple(prediction.used),
            missing=tuple(prediction.missing),
            volumes_ml={name: round(ml, 3) for name, ml in prediction.volumes_ml().items()},
            notes=tuple(prediction.notes),
            warnings=tuple(prediction.warnings),
            not_assessable=tuple(prediction.not_assessable),
            preparation=prediction.report.table(),
            model_version=card.version,
            trust=prediction.trust,
        )


def origin(kind: str, card: Card, prediction: Prediction) -> ResultOrigin:
    """How a prediction of a model came about, `kind` being DICOM's word."""
    done = prediction.report.table() if prediction.report else {}
    trust = prediction.trust if kind == AUTOMATIC else Trust()
    return ResultOrigin(kind, card.name, card.version, done, prediction.warnings, trust)


def results_folder() -> Path:
    """A folder for results of this process alone: a client on the same machine may write files of the same
    name into the common one.

    Those of servers that are no more, however they ended, are taken away.
    """
    for old in Path(tempfile.gettempdir()).glob("slem-results-*-*"):
        number = old.name.split("-")[2]
        if number.isdigit() and not runs(int(number)):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"slem-results-{os.getpid()}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
