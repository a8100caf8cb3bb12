"""Corrections: a result and new prompts -> a new result, changed near the new prompts only.

    refiner = Refiner(predictor)
    result = refiner.start(prepared)  # the automatic result, or one that starts from a mask
    detail = refiner.detail(prepared)  # once a case
    result = refiner.refine(prepared, result, result.prompts.with_click(click), detail)

The model's editor says what a prompt means (`editor_answers`); where a model has none, a rule does
(`rule_answers`). Guarantees, kept whatever is said: the voxel of a click, and every painted voxel, has its
prompt's label (of two prompts on one voxel the later holds); outside `Result.changed` the label map is bit by
bit the one before; labels that a box limits lie inside it. A correction only ever spreads the label that was
pointed at, in one piece with the prompt. By the rule it keeps to what shows the label that the prompt
corrects (a click that turns edema into core takes no enhancing tumor). A removed prompt is not undone here:
go back to the result before it, or `replay`.

`Refiner` keeps no state between calls; its network serves one call at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from slem_app.errors import BadPrompt
from slem_app.predict.answers import Answers, Automatic, Detail
from slem_app.predict.correct import Corrector, EditSettings, Touched, check_inside
from slem_app.predict.editor_answers import EditorAnswers
from slem_app.predict.grids import Box3, moved
from slem_app.predict.predictor import Prediction, Predictor, clock
from slem_app.predict.rule_answers import RuleAnswers
from slem_app.prompts import Box, Click, Mask, Prompts, Scribble
from slem_app.result_warning import lasting
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box
from slem_app.volumes.prepare import Prepared

__all__ = ["Refiner", "Result"]


@dataclass(frozen=True, eq=False)
class Result:
    """A segmentation that can be corrected further."""

    prediction: Prediction
    """The label map on the reference grid, and what goes with it."""
    probabilities: np.ndarray | None
    """(R, I, J, K) float32 of the automatic pass, on the network's grid; None: an editor shall not
    know it.
    """
    prompts: Prompts = field(default_factory=Prompts)
    """What it obeys."""
    changed: Box3 | None = None
    """The box of the reference grid outside which nothing differs from the result before; None: nothing was
    there before.
    """

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        known = 0 if self.probabilities is None else self.probabilities.nbytes
        return self.prediction.array.nbytes + known


class Refiner:
    """Makes and corrects results with one model.

    Args:
        predictor: the model on its device.
        settings: how answers become changes.
    """

    def __init__(self, predictor: Predictor, settings: EditSettings | None = None) -> None:
        self.predictor = predictor
        self.card = predictor.card
        editor, labels = predictor.model.editor, self.card.labels
        settings = settings or EditSettings()
        answers: Answers = (
            RuleAnswers(labels, self.card.postprocess.threshold)
            if editor is None
            else EditorAnswers(editor, labels, predictor.device, settings)
        )
        self.corrector = Corrector(answers, labels, settings)

    def start(self, prepared: Prepared, mask: Mask | None = None) -> Result:
        """The result before any correction.

        Args:
            prepared: the case; its reference is the displayed image's grid.
            mask: an existing segmentation that takes the place of the automatic one.
        """
        if mask is None:
            return Result(*self.predictor.segment(prepared))
        timings: dict[str, float] = {}
        with clock(timings, "network"):
            probabilities = self.predictor.probabilities(prepared)
        with clock(timings, "restore"):
            array = moved(mask.array, mask.grid, prepared.reference, order=0).astype(np.uint8)
        prediction = Prediction(
            np.asfortranarray(array),
            prepared.reference,
            self.card.labels,
            prepared.used,
            prepared.missing,
            timings,
            prepared.notes,
            prepared.warnings,  # none of the result's own: the mask is somebody's
            prepared.report,
        )
        return Result(prediction, probabilities, Prompts(mask=mask))

    def refine(
        self,
        prepared: Prepared,
        result: Result,
        prompts: Prompts,
        detail: Detail | None = None,
    ) -> Result:
        """The result after more prompts.

        Args:
            prepared: the case, as for `start`.
            result: the one that the reader sees.
            prompts: all prompts: those of `result` and new ones, or another box.
            detail: from `detail`; None: made of `prepared`, which takes its time.

        Raises:
            BadPrompt: a label that the model does not have, a prompt outside the image, or prompts of
                `result` that are gone.
        """
        prompts.check(self.card.labels)
        new = prompts.since(result.prompts)
        if new is None:
            raise BadPrompt(
                "earlier prompts are gone: a correction cannot take them back; go back to the result before "
                "them, or replay the others"
            )
        timings = {"network": 0.0, "merge": 0.0}
        array = result.prediction.array.copy(order="K")
        boxes: list[Box3] = []
        warnings = lasting(result.prediction.warnings)
        detail = detail or self.corrector.answers.detail(prepared)
        for entry in new:
            touched = self._follow(array, prepared, detail, result, entry, prompts, timings)
            boxes.append(touched.box)
            warnings += touched.warnings
        if prompts.box is not None and prompts.box != result.prompts.box:
            boxes.append(self._keep_inside(array, prompts.box, prepared.reference))
        prediction = replace(result.prediction, array=array, timings=timings, warnings=warnings)
        return Result(prediction, result.probabilities, prompts, _union(boxes))

    def replay(
        self,
        prepared: Prepared,
        start: Result,
        prompts: Prompts,
        detail: Detail | None = None,
    ) -> Result:
        """The result of all prompts one after the other from `start`, e.g. after one of them was removed."""
        result, done = start, Prompts(mask=start.prompts.mask)
        for entry in prompts.entries:
            done = replace(done, entries=(*done.entries, entry))
            result = self.refine(prepared, result, done, detail)
        result = self.refine(prepared, result, replace(done, box=prompts.box), detail)
        return replace(result, changed=None)

    def detail(self, prepared: Prepared) -> Detail:
        """The case as prompts are answered from it; the same for all of them, and for every image shown."""
        return self.corrector.answers.detail(prepared)

    def _follow(
        self,
        array: np.ndarray,
        prepared: Prepared,
        detail: Detail,
        result: Result,
        entry: Click | Scribble,
        prompts: Prompts,
        timings: dict[str, float],
    ) -> Touched:
        """Let `array` (changed in place) follow one prompt."""
        reference = prepared.reference
        check_inside(entry, reference)
        before = prompts.entries[: prompts.entries.index(entry)]
        automatic = None if result.probabilities is None else Automatic(result.probabilities, prepared.grid)
        with clock(timings, "network"):
            answer = self.corrector.answers.answer(array, reference, detail, automatic, entry, before)
        with clock(timings, "merge"):
            return self.corrector.follow(array, reference, answer, entry, before, prompts.box)

    def _keep_inside(self, array: np.ndarray, box: Box, reference: Grid) -> Box3:
        """Take away what lies outside the box (`array` is changed in place)."""
        limited = [label.value for label in self.card.labels.labels if box.limits(label.name)]
        outside = np.isin(array, limited) & ~box.inside(reference)
        array[outside] = 0
        return bounding_box(outside)


def _union(boxes: Sequence[Box3]) -> Box3:
    real = [b for b in boxes if all(s.stop > s.start for s in b)]
    if not real:
        return (slice(0, 0),) * 3
    return triple(slice(min(b[a].start for b in real), max(b[a].stop for b in real)) for a in range(3))
