"""What a result may claim with the sequences that a case has: no enhancement without a T1 after contrast, no
edema without T2 or FLAIR.

A network answers whatever it is given; these two answers would be read as findings. Measurements of accuracy
look at the network itself and do not come by here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from slem_app.errors import BadStudy
from slem_app.labels import LabelSet
from slem_app.predict.predictor import Prediction
from slem_app.result_warning import ResultWarning, lasting
from slem_app.trust import NOTHING
from slem_app.volumes.coverage import ONE_IMAGE

__all__ = ["NEEDS", "Need", "answer", "assessed", "lost", "misleading"]


@dataclass(frozen=True)
class Need:
    """What must have been seen for a label to be told from others."""

    code: str
    """Of the warning where it was not."""
    sequences: tuple[str, ...]
    """One of them suffices."""
    instead: str
    """The label that its voxels get without; empty: none."""
    says: str
    """For a reader."""

    @property
    def warning(self) -> ResultWarning:
        """What is said without."""
        return ResultWarning(self.code, self.says)


NEEDS: Mapping[str, Need] = {
    "enhancing tumor": Need(
        "enhancement-not-assessable",
        ("t1c",),
        "necrosis",
        "enhancement cannot be assessed without a T1 after contrast (t1c): the whole tumor core is labelled "
        "necrosis, whether it enhances or not",
    ),
    "edema": Need(
        "edema-not-assessable",
        ("t2f", "t2w"),
        "",
        "edema cannot be assessed without FLAIR or T2 (t2f, t2w): no edema is segmented, and the whole tumor "
        "is not measured",
    ),
}
"""Label -> its need."""
T1_ALONE = ResultWarning(
    "t1-alone",
    "a T1 before contrast alone does not show a tumor well enough: nothing is segmented automatically; add "
    "FLAIR, T2 or a T1 after contrast, or segment by hand",
)
"""Dice of the whole tumor by it alone was 0.32 on unseen gliomas (`benchmarks/results/missing_large.md`), and
52 ml were made of a patient without any tumor.
"""


def assessed(prediction: Prediction) -> Prediction:
    """The prediction without labels that its sequences cannot show; warnings and `not_assessable` say which.

    A label is held back only by a model that knows one of the sequences it needs. Where nothing of
    what is needed is there, nothing is left.

    Args:
        prediction: as the network gave it.
    """
    if ONE_IMAGE in prediction.warnings:
        return _nothing(prediction)
    without = lost(prediction.labels.names, prediction.used, prediction.missing)
    if not without:
        return prediction
    if set(without) == set(NEEDS):
        return _nothing(replace(prediction, warnings=(T1_ALONE, *prediction.warnings)))
    table = np.arange(max(label.value for label in prediction.labels.labels) + 1, dtype=np.uint8)
    for name, need in without.items():
        table[prediction.labels.value(name)] = (
            prediction.labels.value(need.instead) if need.instead in prediction.labels.names else 0
        )
    return replace(
        prediction,
        array=table[prediction.array],
        warnings=(*(need.warning for need in without.values()), *prediction.warnings),
        not_assessable=tuple(without),
        unmeasured=misleading(prediction.labels, without),
    )


def _nothing(prediction: Prediction) -> Prediction:
    """Nothing, as the prediction of a study that shows too little; with what speaks of the study."""
    names = prediction.labels.names
    return replace(
        prediction,
        array=np.zeros_like(prediction.array),
        warnings=lasting(prediction.warnings),
        not_assessable=names,
        unmeasured=(*names, *(region.name for region in prediction.labels.regions)),
        trust=NOTHING,
    )


def answer(prediction: Prediction) -> Prediction:
    """What is given for an automatic segmentation: as `assessed`, but a refusal where nothing is left, since
    readers would take an empty result for a finding, and not every client shows warnings.

    Raises:
        BadStudy: the sequences show too little for any answer.
    """
    return given(assessed(prediction))


def given(told: Prediction) -> Prediction:
    """The same of what `assessed` has made.

    Raises:
        BadStudy: the sequences show too little for any answer.
    """
    for refusal in (T1_ALONE, ONE_IMAGE):
        if refusal in told.warnings:
            raise BadStudy(refusal.text)
    return told


def lost(names: Iterable[str], used: Iterable[str], missing: Iterable[str]) -> dict[str, Need]:
    """The labels that the sequences of a case cannot show, with what each would need.

    A label is lost only where the model knows a sequence that it needs.

    Args:
        names: labels of the model.
        used: sequences of the model that the case has.
        missing: those that it lacks.
    """
    there, known = {*used}, {*used, *missing}
    return {
        name: NEEDS[name]
        for name in names
        if name in NEEDS and known & {*NEEDS[name].sequences} and not there & {*NEEDS[name].sequences}
    }


def misleading(labels: LabelSet, without: Mapping[str, Need]) -> tuple[str, ...]:
    """Labels and regions whose millilitres would mislead: those lost, and regions that lost a part."""
    regions = [
        region.name
        for region in labels.regions
        if any(name in region.labels and need.instead not in region.labels for name, need in without.items())
    ]
    return (*without, *regions)
