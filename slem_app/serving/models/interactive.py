"""A model that readers correct: clicks, a box or scribbles in, the corrected label map of the whole image
out.

What a click costs is in the reply's `latencies`: beside the steps of the automatic task these are merge (into
what was there) and memory (the way back). Reading, preparing and the pass over
the whole volume are done once a case and kept.

A case stays with the version of the model that its reader has begun it with (`served`).

Concurrency: a request holds its reader's work (`EditHistory.locked`) and, while the network is in use, its
lock (`LocalCompute`), in this order.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from pathlib import Path

import numpy as np

from slem_app.labels import LabelSet, Region
from slem_app.predict import Prediction, Predictor
from slem_app.prompts import Corrections, Mask, Prompts
from slem_app.serving.auth.identity import reader_of
from slem_app.serving.cases.case import Case
from slem_app.serving.models.compute import Compute, Start, Timings, add, image_key, result_key, timed
from slem_app.serving.models.history import EditHistory, Work
from slem_app.serving.models.inference import InferAnswer, InferRequest
from slem_app.serving.models.last_result import AUTOMATIC, SEMIAUTOMATIC
from slem_app.serving.models.moments import heard, wanted, with_mask
from slem_app.serving.models.prompt_request import PromptRequest, parse_clicks, parse_scribbles
from slem_app.serving.models.segment import SegmentationTask, origin
from slem_app.serving.models.stale_points import StalePoints
from slem_app.serving.models.task_kind import TaskKind
from slem_app.serving.models.versions import ServedVersions
from slem_app.trust import NOTHING
from slem_app.weights import Card

__all__ = ["InteractiveTask"]

logger = logging.getLogger(__name__)

BACKGROUND = "background"
NAMES = 4096  # of begun cases, as clients ask about them


class InteractiveTask:
    """A model as a tool of the clients: it follows clicks, or scribbles.

    Args:
        automatic: the same model without interaction: prepares cases, writes results.
        memory: works of all readers, shared by the tools.
        kind: which tool.
    """

    def __init__(
        self,
        automatic: SegmentationTask,
        memory: EditHistory,
        kind: TaskKind = TaskKind.CLICKS,
    ) -> None:
        card = automatic.predictor.card
        self.kind = kind
        self.labels = dict(automatic.labels)
        if kind == TaskKind.CLICKS:
            # Slicer sends clicks of listed names only; OHIF would show label 0, or one out of order, in place
            # of another. No voxel has this value.
            self.labels[BACKGROUND] = len(self.labels) + 1
        follows = "clicks" if kind == TaskKind.CLICKS else "scribbles"
        self.description = f"{card.description} Follows the reader's {follows}."
        self.sequences = card.sequences
        self.automatic = automatic
        self.memory = memory
        self.stale_points = StalePoints()
        self.begun_as: OrderedDict[str, Hashable] = OrderedDict()

    @property
    def served(self) -> ServedVersions:
        """Which version answers whom."""
        return self.automatic.served

    @property
    def compute(self) -> Compute:
        """What computes."""
        return self.automatic.compute

    @property
    def predictor(self) -> Predictor:
        """The version that is served now."""
        return self.served.now

    @property
    def card(self) -> Card:
        """The card of that version."""
        return self.predictor.card

    @property
    def reaches(self) -> bool:
        """True when the reach of a prompt can be changed: clicks are listed."""
        return self.kind == TaskKind.CLICKS

    @property
    def weights(self) -> Path:
        """The weight file of that version."""
        return self.automatic.weights

    def __call__(self, case: Case, request: InferRequest) -> InferAnswer:
        """Correct a case as the request's prompts say.

        Raises:
            SlemError: anything in the request or the case that cannot be used; then everything is as it was
                before.
        """
        begin = time.perf_counter()
        reader = reader_of(request.client_id)
        moves, timings = self.compute.prepare(case, self.served.begun_with(reader, case.id))
        image = image_key(case, moves)
        ask, label, notes = self._prompts(case, reader, request, image)
        predictor = self.served.interactive(reader, case.id)
        card = predictor.card
        key = (reader, *result_key(card, image))
        with self.memory.locked(key):
            with timed(timings, "automatic"):
                start, spent = self.compute.start(case, predictor)
            add(timings, spent)
            self._note_begun(request, result_key(card, image))
            work = self.memory.get(key, case.state)
            if work is None and len(ask.clicks) > 1 and not ask.start_over:
                notes.append(
                    f"the server no longer knows your earlier steps, so the {len(ask.clicks)} clicks were "
                    "made again, label by label"
                )
            work = self._done(work or Work.begin(start.result), ask, case, start, predictor, timings)
            with timed(timings, "memory"):
                work = self.memory.put(key, case.state, work)
        now, touched = work.result.prediction, work.now.prompts != Prompts()
        trust = NOTHING if touched else now.trust  # a model says nothing of what a reader has changed
        warnings = (*case.warnings, *now.warnings)
        prediction = replace(now, timings=timings, warnings=warnings, trust=trust)
        with timed(timings, "write"):
            shown = _only(prediction, label) if label else prediction
            path = self.automatic.write(shown, case.displayed, request.reply)
        making = origin(SEMIAUTOMATIC if touched else AUTOMATIC, card, prediction)
        self.automatic.note(reader, case, making, work.array)
        with timed(timings, "facts"):
            facts = self.automatic.facts(case, prediction, card)
        timings["total"] = time.perf_counter() - begin
        latencies = {step: round(seconds, 4) for step, seconds in timings.items() if step != "automatic"}
        logger.info(
            "%s: %s/%s, %d prompts: %s",
            card.name,
            case.id,
            case.sequence,
            len(work.now.prompts.entries),
            latencies,
        )
        facts = replace(
            facts,
            label_names={label: 1} if label else facts.label_names,
            prompts=len(work.now.prompts.entries),
            steps=len(work.past),
            redo_steps=len(work.future),
            notes=(*notes, *facts.notes),
            latencies=latencies,
        )
        return InferAnswer(shown, facts, path)

    def begun(self, request: InferRequest) -> bool:
        """True when the automatic segmentation of what is asked about is in memory, so that the answer takes
        as long as a click does.
        """
        return self.compute.begun(self.begun_as.get(request.image or request.session))

    def edited(self, case: Case, array: np.ndarray, client_id: str) -> None:
        """The reader of this request submitted a label: from now on it is what his prompts change.

        Args:
            case: on whose image it lies.
            array: (I, J, K) label values.
            client_id: as the client gave it.
        """
        key = self._work(reader_of(client_id), case)
        if key is None:
            return
        with self.memory.locked(key):
            work = self.memory.get(key, case.state)
            if work is not None and not np.array_equal(work.array, array):
                self.memory.put(
                    key, case.state, with_mask(work, Mask(np.asfortranarray(array), case.series.grid))
                )

    def placed(self, reader: str, case: str) -> int:
        """How many clicks and scribbles the reader has placed on the case with this model, as far as they are
        remembered.
        """
        version = _version(self.served.begun_with(reader, case).card)
        works = self.memory.find(
            lambda key: (
                key[0] == reader and key[1 : 1 + len(version)] == version and key[1 + len(version)] == case
            )
        )
        return sum(work.placed for work in works)

    def corrections(self, reader: str, case: Case) -> Corrections | None:
        """What the reader did to the segmentation of an image with this model, as far as it is remembered;
        None where they have not prompted it.
        """
        known = self._work(reader, case)
        work = None if known is None else self.memory.get(known, case.state)
        if work is None or not work.busiest.prompts.entries:
            return None
        seen = work.busiest.start.prediction
        return Corrections(Mask(seen.array, seen.grid), work.busiest.prompts.entries)

    def _work(self, reader: str, case: Case) -> tuple[Hashable, ...] | None:
        """The key of the reader's work on an image; None where nothing was shown of it."""
        predictor = self.served.begun_with(reader, case.id)
        moves = self.automatic.known_moves(case, predictor)
        return None if moves is None else (reader, *result_key(predictor.card, image_key(case, moves)))

    def _prompts(
        self, case: Case, reader: str, request: InferRequest, identity: tuple[Hashable, ...]
    ) -> tuple[PromptRequest, str, list[str]]:
        """What the reader asks for, the label that scribbles mean, and notes."""
        labels, image = self.predictor.card.labels, case.series.grid
        if self.kind == TaskKind.SCRIBBLES:
            return *parse_scribbles(request, labels, image, case.displayed), []
        if request.prompts is not None:
            return PromptRequest(exact=request.prompts), "", []
        if not request.repeats_points:
            return parse_clicks(request, labels, image, case.displayed), "", []
        points, stale = self.stale_points.without(request.points, reader, identity)
        ask = parse_clicks(replace(request, points=points), labels, image, case.displayed)
        self.stale_points.heard(points, reader, identity)
        note = f"points of {', '.join(stale)} were left out: they are those of another image"
        return ask, "", [note] if stale else []

    def _note_begun(self, request: InferRequest, key: Hashable) -> None:
        """Under which name a client asks about a case that is begun."""
        name = request.image or request.session
        if name:
            self.begun_as[name] = key
            self.begun_as.move_to_end(name)
            while len(self.begun_as) > NAMES:
                self.begun_as.popitem(last=False)

    def _done(
        self,
        work: Work,
        ask: PromptRequest,
        case: Case,
        start: Start,
        predictor: Predictor,
        timings: Timings,
    ) -> Work:
        """The work after the request."""
        if ask.undo or ask.redo:
            return heard(work.back() if ask.undo else work.forward(), ask)
        work, moment = wanted(work, ask, start.result)
        result, present = work.nearest(moment.prompts, moment.start)
        if ask.exact is None:
            moment = replace(moment, prompts=moment.prompts.ordered_like(result.prompts))
        if result.prompts == moment.prompts:
            return work.ahead(moment, result.prediction.array)
        changed, single = None, 0
        before = result.prompts.entries
        # one at a time, as if they had come one by one: then the segmentation does not depend on when they
        # came
        for count in range(len(before) + 1, len(moment.prompts.entries) + 1) or [len(before)]:
            prompts = replace(moment.prompts, entries=moment.prompts.entries[:count])
            result = self.compute.refine(case, predictor, start, result, prompts)
            add(timings, result.prediction.timings)
            changed, single = result.changed, single + 1
        with timed(timings, "memory"):
            return work.ahead(moment, result.prediction.array, changed if present and single == 1 else None)


def _version(card: Card) -> tuple[str, str, str]:
    """What tells a model from others and from its other versions."""
    return (card.name, card.version, card.sha256)


def _only(prediction: Prediction, name: str) -> Prediction:
    """One label as value 1, as Slicer's Scribbles reads a reply."""
    label = prediction.labels.labels[prediction.labels.value(name) - 1]
    one = replace(label, value=1)
    array = np.asfortranarray(prediction.array == label.value).astype(np.uint8, order="K")
    return replace(prediction, array=array, labels=LabelSet((one,), (Region(name, (name,)),)))
