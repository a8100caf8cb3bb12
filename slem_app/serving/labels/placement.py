"""On which image of its case a label map lies."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from slem_app.errors import BadGrid, SlemError, StorageFailed
from slem_app.formats import place, read_label_file
from slem_app.formats.nifti import write_values
from slem_app.serving.cases.case import Case
from slem_app.store.labels import LabelVersion, file_name
from slem_app.types import Grid
from slem_app.volumes.geometry import resample

__all__ = ["label_on", "largest_grid", "placed"]


def largest_grid(case: Case) -> Grid:
    """The grid of most voxels among the case's images."""
    grids = [case.series.grid]
    for series in case.grouping.sequences.values():
        with suppress(SlemError):  # another sequence's trouble
            grids.append(series.grid)
    return max(grids, key=lambda grid: math.prod(grid.shape))


def placed(case: Case, array: np.ndarray, grid: Grid) -> tuple[Case, np.ndarray]:
    """The image on whose grid a label lies, first of all the one that was asked for, and the label on all of
    that grid.
    """
    refusals, names = [], dict.fromkeys((case.sequence, *case.grouping.sequences))
    shown = [case] if case.onto else []
    for image in (*shown, *(replace(case, sequence=name, onto=None) for name in names)):
        try:
            return image, place(array, grid, image.series.grid, "the label")
        except BadGrid as error:
            refusals.append(str(error))
    raise BadGrid(
        f"{refusals[0]}. No other sequence of case {case.id!r} has that grid either. "
        "Export it with the image as reference volume; nothing was saved, and earlier versions are kept"
    )


def label_on(
    case: Case, drawn_on: str, moves: Mapping[str, np.ndarray], version: LabelVersion, root: Path
) -> Path:
    """A label file for an image other than the one that it was drawn on.

    Args:
        case: the image that is shown.
        drawn_on: image of the case on which the label was drawn.
        moves: as `Prepared.moves`.
        version: the label.
        root: where copies may be kept.

    Returns:
        The version's own file where the two images share a world; else a copy on the shown image's grid,
        moved as that image was, nearest neighbour.

    Raises:
        StorageFailed: a copy is needed and the disk refused it.
    """
    still = np.eye(4)
    across = moves.get(case.image, still) @ np.linalg.inv(moves.get(drawn_on, still))
    if np.allclose(across, still, atol=1e-6):
        return version.label
    grid = case.series.grid
    made_from = (version.folder.parent.name, version.number, version.label.stat().st_mtime_ns)
    digest = hashlib.sha256(repr((made_from, across.round(4).tolist(), grid)).encode()).hexdigest()[:12]
    copy = root / "images" / file_name(case.id) / f"label-{file_name(case.image)}-{digest}.nii.gz"
    if not copy.is_file():
        array, own, _ = read_label_file(version.label)
        shown = resample(array, Grid(own.shape, across @ own.affine), grid, order=0)
        try:
            copy.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(f"cannot make {copy.parent}: {error.strerror or error}") from error
        write_values(shown, grid, copy)
    return copy
