"""`output=dicom_seg` of `/infer/`: what a request gives as a DICOM segmentation that is stored nowhere.
Saving is `/slem/save`.
"""

from __future__ import annotations

import numpy as np

from slem_app.errors import BadSetting
from slem_app.formats.provenance import Provenance, dicom_bytes, remarks
from slem_app.labels import CHECK_HERE
from slem_app.serving.cases.case import Case
from slem_app.serving.models.inference import InferAnswer
from slem_app.serving.models.last_result import AUTOMATIC, SEMIAUTOMATIC
from slem_app.weights import Card

__all__ = ["check_source", "map_of_doubts", "seg_of_answer"]


def check_source(case: Case) -> None:
    """Refuse, before anything is computed, an image that a DICOM segmentation cannot refer to.

    Raises:
        BadSetting: it is none that viewers find here.
    """
    if not case.lasting or case.view.sources(case.series) is None:
        why = "; ".join(case.view.refused) or "it is not kept here, or not in this server's PACS"
        raise BadSetting(
            f"output=dicom_seg needs an image that DICOM viewers find at this server; image {case.id!r} "
            f"is not one ({why}): use output=image"
        )


def seg_of_answer(case: Case, card: Card, answer: InferAnswer) -> bytes:
    """The DICOM file.

    Args:
        case: the image on whose grid the result lies.
        card: of the model that was asked for.
        answer: the result.

    Raises:
        BadStudy: a series that a segmentation cannot refer to.
    """
    from slem_app.formats.seg import make_seg  # slow to import; a server starts without it

    # scribbles answer with one label, as value 1
    meaning = {value: name for name, value in answer.facts.label_names.items()}
    array = card.labels.remap(answer.prediction.array, meaning)
    kind = SEMIAUTOMATIC if answer.facts.prompts else AUTOMATIC
    version = answer.facts.model_version
    told = remarks(answer.prediction.warnings, answer.prediction.report.notes())
    sources = case.view.sources(case.series) or case.series
    how = Provenance(kind, card.name, version, f"{card.name} {version}, not saved", remarks=told)
    return dicom_bytes(make_seg(array, answer.prediction.grid, card.labels, sources, how))


def map_of_doubts(case: Case, card: Card, values: np.ndarray) -> bytes:
    """Where a result may be wrong, as a fractional DICOM segmentation.

    Args:
        case: the image on whose grid the map lies.
        card: of the model whose result it is.
        values: (I, J, K) from 0 (sure) to 1.

    Raises:
        BadStudy: a series that a segmentation cannot refer to.
    """
    from slem_app.formats.fractional import make_fractional_seg  # slow to import; a server starts without it

    sources = case.view.sources(case.series) or case.series
    how = Provenance(AUTOMATIC, card.name, card.version, f"{card.name} {card.version}: check here")
    return dicom_bytes(make_fractional_seg(values, case.series.grid, CHECK_HERE, sources, how))
