"""`output=dicom_seg` of `/infer/`: what a request gives as a DICOM segmentation that is stored nowhere.
Saving is `/slem/save`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slem_app.errors import BadSetting
from slem_app.formats import read_label_file
from slem_app.formats.provenance import Provenance
from slem_app.formats.seg import write_seg
from slem_app.serving.cases.catalogue import Case
from slem_app.serving.models.last_result import AUTOMATIC, SEMIAUTOMATIC
from slem_app.weights import Card

__all__ = ["check_source", "seg_of_reply"]


def check_source(case: Case) -> None:
    """Refuse, before anything is computed, an image that a DICOM segmentation cannot refer to.

    Raises:
        BadSetting: it is none of a lasting DICOM series.
    """
    if case.series.format != "dicom" or not case.lasting:
        raise BadSetting(
            f"output=dicom_seg is for DICOM studies of this server; image {case.id!r} is "
            f"{case.series.format}: ask for output=image"
        )


def seg_of_reply(case: Case, card: Card, file: Path, params: Mapping[str, Any]) -> bytes:
    """The DICOM file.

    Args:
        case: the image on whose grid the result lies.
        card: of the model that was asked for.
        file: the result.
        params: the reply's JSON.

    Raises:
        BadStudy: a series that a segmentation cannot refer to.
        StorageFailed: the disk refused.
    """
    array, grid, _ = read_label_file(file)
    # scribbles answer with one label, as value 1
    array = card.labels.remap(array, {value: name for name, value in params["label_names"].items()})
    kind, version = SEMIAUTOMATIC if params.get("prompts") else AUTOMATIC, str(params["model_version"])
    path = file.with_name(f"{file.name}.dcm")
    try:
        how = Provenance(kind, card.name, version, f"{card.name} {version}, not saved")
        return write_seg(array, grid, card.labels, case.series, how, path).read_bytes()
    finally:
        path.unlink(missing_ok=True)
