"""Pixels of a DICOM series, slice by slice in the order of its grid; modality rescaling applied (PS3.3
C.11.1).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom import Dataset
from pydicom.pixel_data_handlers.util import apply_modality_lut

from slem_app.errors import BadVolume
from slem_app.studies import Series
from slem_app.studies.dicom_file import read_file
from slem_app.studies.dicom_header import BROKEN, reason
from slem_app.types import Grid
from slem_app.volumes.decoder import PixelDecoder

__all__ = ["read_dicom", "read_frames"]

UNREADABLE = (*BROKEN, RuntimeError)


def read_dicom(series: Series) -> tuple[np.ndarray, Grid]:
    """Read a series.

    Returns:
        (I, J, K) float32, I along a row, J down a column, K from slice to slice, and the grid in RAS mm.

    Raises:
        BadVolume: a file without readable pixels, in colour or of another size, or slices that make no
            volume.
    """
    grid = series.grid
    array = np.empty(grid.shape, dtype=np.float32)
    opened: Path | None = None
    frames: np.ndarray = np.empty((0, 0, 0))
    with PixelDecoder() as decoder:
        for k, (path, frame) in enumerate(series.frames):
            if opened != path:  # a multi-frame file is decoded once
                opened, frames = path, read_frames(path, series.name, decoder)
            if frame >= len(frames) or frames.shape[1:] != (grid.shape[1], grid.shape[0]):
                raise BadVolume(
                    f"series {series.name!r}: {path.name} holds pixels of shape {frames.shape} where "
                    f"{grid.shape[1]}x{grid.shape[0]} are announced: export it again"
                )
            array[:, :, k] = frames[frame].T
    return array, grid


def read_frames(path: Path, name: str, decoder: PixelDecoder) -> np.ndarray:
    """(frames, rows, columns) of one file, rescaled.

    Raises:
        BadVolume: no readable pixels, or in colour.
        TooLarge, TookTooLong: as `read_file` and `Decoder.pixels`.
    """
    try:
        dataset, _ = read_file(path)
        if dataset.get("SamplesPerPixel", 1) != 1:
            raise BadVolume(
                f"series {name!r}: {path.name} is a colour image; a sequence has one value a voxel: choose "
                "another series"
            )
        pixels = decoder.pixels(dataset, path.name)
        pixels = pixels.reshape(-1, *pixels.shape[-2:])
        return np.stack([apply_modality_lut(frame, _rescaling(dataset, n)) for n, frame in enumerate(pixels)])
    except UNREADABLE as error:
        raise BadVolume(
            f"series {name!r}: the pixels of {path.name} cannot be decoded ({reason(error)}): export it "
            f"again, uncompressed if the transfer syntax is unusual"
        ) from error


def _rescaling(dataset: Dataset, frame: int) -> Dataset:
    """What holds the modality rescaling of one frame: enhanced files keep it in a functional group, unlike
    from frame to frame.
    """
    own = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    groups = [*own[frame : frame + 1], *(dataset.get("SharedFunctionalGroupsSequence") or ())]
    return next(
        (
            group.PixelValueTransformationSequence[0]
            for group in groups
            if group.get("PixelValueTransformationSequence")
        ),
        dataset,
    )
