"""Pixels of one series, from NIfTI, DICOM or PNG, as float32 with a RAS grid."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError

from slem_app.errors import BadVolume
from slem_app.studies import Series
from slem_app.types import Grid
from slem_app.volumes.dicom import read_dicom
from slem_app.volumes.geometry import check_grid
from slem_app.volumes.png import read_png
from slem_app.volumes.prepare import Volume

__all__ = ["read", "read_all", "read_labels"]

# what nibabel raises for damaged files
UNREADABLE = (ImageFileError, EOFError, OSError, zlib.error, ValueError)


def read(series: Series) -> Volume:
    """Read the intensities of one series.

    Raises:
        BadVolume: truncated or no image, 4D, NaN, or constant.
        BadGrid: an affine that no image can have.
        NotFound: the file is gone.
    """
    array, grid = _pixels(series)
    array = array.astype(np.float32, copy=False)
    if not np.isfinite(array).all():
        bad = int((~np.isfinite(array)).sum())
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
        return dict(zip(series, pool.map(read, series.values()), strict=True))


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
            f"{series.id}: a label map holds whole numbers from 0 to 255, this file has values "
            f"{low:g} to "
            f"{high:g}, or fractions, or NaN"
        )
    return labels, grid


def _pixels(series: Series) -> tuple[np.ndarray, Grid]:
    with series.files():
        array, grid = READERS[series.format](series)
    check_grid(grid, series.id)
    return array, grid


def _read_nifti(series: Series) -> tuple[np.ndarray, Grid]:
    path = series.paths[0]
    grid = series.grid  # refuses what is no image, truncated, in colour, or 4D without a channel
    try:
        array = np.array(nib.load(path).dataobj)  # a copy: nothing stays mapped to a file that may change
    except UNREADABLE as error:
        raise BadVolume(
            f"{path.name}: not a readable NIfTI image, or truncated ({error}): copy or export it again"
        ) from error
    return array.reshape(*grid.shape, -1)[..., series.channel or 0] if array.ndim > 3 else array, grid


READERS = {"dicom": read_dicom, "png": read_png, "nifti": _read_nifti}
"""By `Series.format`."""
