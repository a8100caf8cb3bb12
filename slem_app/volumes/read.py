"""Pixels of one series, from NIfTI, DICOM or PNG, as float32 with a RAS grid."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from slem_app.errors import BadVolume, NotFound
from slem_app.preemption import yielding_map
from slem_app.studies import Series
from slem_app.studies.nifti_header import NiftiHeader
from slem_app.types import Grid
from slem_app.volumes.brain import BrainMask
from slem_app.volumes.dicom import read_dicom
from slem_app.volumes.geometry import check_grid
from slem_app.volumes.levels import Volume
from slem_app.volumes.nifti import as_float, stored_voxels
from slem_app.volumes.png import read_png

__all__ = ["read", "read_all", "read_brain", "read_labels", "read_stored"]


def read(series: Series) -> Volume:
    """Read the intensities of one series.

    Raises:
        BadVolume: truncated or no image, 4D, NaN, or constant.
        BadGrid: an affine that no image can have.
        NotFound: the file is gone.
    """
    array, grid = _pixels(series)
    array = array.astype(np.float32, copy=False)
    if bad := sum(int(np.count_nonzero(~np.isfinite(array[..., k]))) for k in range(array.shape[2])):
        raise BadVolume(
            f"{series.id}: {bad} of {array.size} voxels are NaN or infinite: export the image again, or "
            f"replace them by the background value"
        )
    if array.min() == array.max():
        raise BadVolume(f"{series.id}: every voxel has the value {array.flat[0]:g}: the image is empty")
    return Volume(array, grid)


def read_all(series: Mapping[str, Series]) -> dict[str, Volume]:
    """Read the sequences of a study, by name, at the same time: unpacking takes longer than the disk does.

    Raises:
        BadVolume, BadGrid, NotFound: as `read`, for the first of them that cannot be read.
    """
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip(series, yielding_map(pool, read, series.values()), strict=True))


def read_labels(series: Series) -> tuple[np.ndarray, Grid]:
    """Read a label map: (I, J, K) int16 and its grid.

    Raises:
        BadVolume: as `read`, or values that are not whole numbers from 0 to 255.
        BadGrid: an affine that no image can have.
        NotFound: the file is gone.
    """
    array, grid = _pixels(series)
    low, high = array.min(), array.max()
    if not (low >= 0 and high <= 255) or not np.array_equal(labels := array.astype(np.int16), array):
        raise BadVolume(
            f"{series.id}: a label map holds whole numbers from 0 to 255, this file has values {low:g} to "
            f"{high:g}, or fractions, or NaN"
        )
    return labels, grid


def read_brain(path: Path) -> BrainMask:
    """Read a reader's own brain mask: a NIfTI file, brain where it is not 0.

    Raises:
        BadVolume, BadGrid, NotFound: as `read_labels`; also an empty one.
    """
    if not path.is_file():
        raise NotFound(f"no brain mask {path}: give a NIfTI file, 1 in the brain and 0 elsewhere")
    array, grid = read_labels(Series(path.name, (path,), "nifti", path.name))
    if not array.any():
        raise BadVolume(f"{path.name}: this brain mask is empty: it needs 1 in the brain and 0 elsewhere")
    return BrainMask(array > 0, grid)


def read_stored(series: Series) -> tuple[np.ndarray, float, float]:
    """Read an image as it is stored, whatever its values are: (I, J, K) of any real type, slope, intercept.

    A value is stored * slope + intercept.

    Raises:
        BadVolume: truncated, or no image, or 4D.
        BadGrid: an affine that no image can have.
        NotFound: the file is gone.
    """
    if series.format != "nifti":
        return _pixels(series)[0], 1.0, 0.0
    with series.files():
        check_grid(series.grid, series.id)
        header = NiftiHeader.read(series.paths[0])
        return _stored_nifti(series, header), header.slope, header.inter


def _pixels(series: Series) -> tuple[np.ndarray, Grid]:
    with series.files():
        array, grid = READERS[series.format](series)
    check_grid(grid, series.id)
    return array, grid


def _read_nifti(series: Series) -> tuple[np.ndarray, Grid]:
    grid = series.grid  # refuses what is no image, truncated, in colour, or 4D without a channel
    header = NiftiHeader.read(series.paths[0])
    stored = _stored_nifti(series, header)
    return stored if (header.slope, header.inter) == (1.0, 0.0) else as_float(stored, header), grid


def _stored_nifti(series: Series, header: NiftiHeader) -> np.ndarray:
    stored = stored_voxels(header)
    if stored.ndim > 3:
        stored = stored.reshape(*series.grid.shape, -1, order="F")[..., series.channel or 0]
    return stored


READERS = {"dicom": read_dicom, "png": read_png, "nifti": _read_nifti}
"""By `Series.format`."""
