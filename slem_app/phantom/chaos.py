"""An abdomen in the folders of CHAOS: DICOM series whose UIDs do not tell them apart, truths as PNG files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import Dataset

from slem_app.phantom.body import BodyPhantom
from slem_app.phantom.files import stored_as, study_of, write_series
from slem_app.types import Grid

__all__ = ["GREYS", "write_chaos"]

GREYS = (0, 63, 126, 189, 252)  # background, liver, right kidney, left kidney, spleen
T1, T2 = "T1DUAL", "T2SPIR"


def write_chaos(phantom: BodyPhantom, folder: Path, case_id: str, labels: bool = True) -> Path:
    """Write one case as FOLDER/MR/CASE_ID/{T1DUAL,T2SPIR}/{DICOM_anon,Ground}.

    As in the set itself in- and out-phase share SeriesInstanceUID and SOPInstanceUIDs, descriptions are gone,
    and a PNG file has the name of its slice's DICOM file (of the in-phase, on T1-DUAL).

    Args:
        phantom: with t1_in, t1_out and t2.
        folder: of the set; made if missing.
        case_id: name of the patient's folder.
        labels: write the truths too.

    Returns:
        The case's folder.
    """
    case = Path(folder) / "MR" / case_id
    study = study_of(phantom, case_id)
    study.MagneticFieldStrength = 1.5

    # the two phases take turns in the numbering
    def in_phase(k: int) -> str:
        return f"IMG-0004-{2 * k + 2:05d}"

    def out_phase(k: int) -> str:
        return f"IMG-0004-{2 * k + 1:05d}"

    _series(phantom, case / T1 / "DICOM_anon" / "InPhase", study, (4, T1), "t1_in", in_phase)
    _series(phantom, case / T1 / "DICOM_anon" / "OutPhase", study, (4, T1), "t1_out", out_phase)
    _series(phantom, case / T2 / "DICOM_anon", study, (2, T2), "t2", "IMG-0002-{:05d}".format)
    if labels:
        _truth(phantom.truths["t1_in"], phantom.grids["t1_in"], case / T1 / "Ground", in_phase)
        _truth(phantom.truths["t2"], phantom.grids["t2"], case / T2 / "Ground", "IMG-0002-{:05d}".format)
    return case


def _series(
    phantom: BodyPhantom,
    folder: Path,
    study: Dataset,
    series: tuple[int, str],
    sequence: str,
    name: Callable[[int], str],
) -> None:
    stored, fields = stored_as(phantom.images[sequence], sequence)
    fields = {key: value for key, value in fields.items() if key not in ("SeriesDescription", "ProtocolName")}
    write_series(folder, study, series, fields, stored, phantom.grids[sequence], lambda k: f"{name(k)}.dcm")


def _truth(labels: np.ndarray, grid: Grid, folder: Path, name: Callable[[int], str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(grid.shape[2]):
        Image.fromarray(np.array(GREYS, np.uint8)[labels[:, :, k]].T).save(folder / f"{name(k)}.png")
