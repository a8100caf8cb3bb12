"""The map of where a result is likely wrong, beside the file of `slem predict`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from slem_app.errors import BadSetting

if TYPE_CHECKING:
    import numpy as np

    from slem_app.studies import Series
    from slem_app.volumes.prepare import Prepared
    from slem_app.weights import Card

__all__ = ["ENDINGS", "beside", "write_doubts"]

ENDINGS = {"nifti": ".nii.gz", "seg": ".seg.dcm", "rtstruct": ".rtstruct.dcm"}
"""Of a result's file, by its format."""


def beside(path: Path, ending: str) -> Path:
    """A file of the same name as a result's, with another ending."""
    own = next(one for one in (*ENDINGS.values(), ".nii", ".dcm") if path.name.endswith(one))
    return path.with_name(path.name.removesuffix(own) + ending)


def write_doubts(
    prepared: Prepared, known: np.ndarray, card: Card, series: Series, kind: str, path: Path
) -> Path:
    """Write the map.

    Args:
        prepared: the case.
        known: (R, I, J, K) the probabilities by which labels were decided.
        card: of the model.
        series: the one on whose grid the result lies.
        kind: format of the result, in `ENDINGS`.
        path: the result's file.

    Raises:
        BadSetting: the model does not say, or what writes DICOM results is not installed.
    """
    from slem_app.formats.image import write_image
    from slem_app.formats.provenance import Provenance
    from slem_app.labels import CHECK_HERE
    from slem_app.predict.check_here import doubts_on

    grid = prepared.reference
    doubts = doubts_on(grid, known, prepared.grid, card.labels, card.postprocess, card.confidence)
    if kind == "nifti":
        return write_image(doubts.values, grid, beside(path, ".check_here.nii.gz"))
    try:
        from slem_app.formats.fractional import write_fractional_seg  # an optional part, and slow to import
    except ImportError as error:
        raise BadSetting(
            f"--check-here needs {error.name}: pip install 'slem-label[seg]', or write NIfTI"
        ) from error
    how = Provenance("AUTOMATIC", card.name, card.version, f"{card.name} {card.version}: check here")
    return write_fractional_seg(doubts.values, grid, CHECK_HERE, series, how, beside(path, ".check_here.dcm"))
