"""A label map beside the DICOM series that it belongs to."""

import dataclasses
from pathlib import Path

import numpy as np
from pydicom import dcmread

from slem_app import phantom
from slem_app.formats.provenance import Provenance
from slem_app.studies import Series, open_source
from slem_app.types import Grid

AUTOMATIC = Provenance(
    "AUTOMATIC", "slem_brain", "1.2", "SLeM slem_brain v3", series_number=77, creator="Müller"
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A label map and the DICOM series it belongs to."""

    array: np.ndarray
    grid: Grid
    series: Series

    @property
    def files(self) -> list[Path]:
        return sorted(self.series.paths)


def made(folder: Path, orientation: str, seed: int = 3) -> Case:
    whole = phantom.make(
        seed=seed, shape=(32, 40, 28), spacing=(1.25, 1.0, 1.5), oblique=orientation == "axial-oblique"
    )
    code = {"reversed": "LPI", "sagittal": "PIL", "coronal": "LIP"}.get(orientation)
    case = phantom.reorient_phantom(whole, code) if code else whole
    phantom.write_dicom(dataclasses.replace(case, images={"t1c": case.images["t1c"]}), folder, f"case{seed}")
    return Case(case.labels, case.grid, open_source(folder).study(f"case{seed}").series[0])


def planes_by_image(case: Case) -> dict[str, np.ndarray]:
    """SOPInstanceUID -> (rows, columns) labels, from how the phantom was written: slice k is one image."""
    places = {
        tuple(np.round(case.grid.to_world([0, 0, k]) * [-1, -1, 1], 3)): k for k in range(case.grid.shape[2])
    }
    images = map(dcmread, case.files)
    return {
        image.SOPInstanceUID: case.array[
            :, :, places[tuple(np.round([float(v) for v in image.ImagePositionPatient], 3))]
        ].T
        for image in images
    }


def moved(grid: Grid, by: float) -> Grid:
    affine = grid.affine.copy()
    affine[:3, 3] += affine[:3, 0] * by
    return Grid(grid.shape, affine)
