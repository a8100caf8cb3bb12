"""The slices of a DICOM series, classic or multi-frame, and which voxels of a grid they are.

Everything here goes by position and orientation (PS3.3 C.7.6.2), never by file names, instance numbers or the
order of files. DICOM speaks LPS; a `Plane` is already RAS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
from pydicom import Dataset

from slem_app.errors import BadGrid, BadStudy, BadVolume, NotFound
from slem_app.studies import Series
from slem_app.studies.dicom_file import read_file
from slem_app.studies.dicom_header import BROKEN, reason
from slem_app.types import Grid

__all__ = ["LPS", "Plane", "Sources", "frame_plane", "group_value", "open_dicom", "ordered", "planes_of"]

Sources = Series | Sequence[Dataset | Path]
"""A DICOM series: as `studies` lists it, or its images, as files or as datasets that need no pixels."""

LPS = np.diag([-1.0, -1.0, 1.0])
GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
GROUPS = {  # keyword -> the functional group that holds it in a multi-frame file
    "ImagePositionPatient": "PlanePositionSequence",
    "ImageOrientationPatient": "PlaneOrientationSequence",
    "PixelSpacing": "PixelMeasuresSequence",
    "SliceThickness": "PixelMeasuresSequence",
}
OFF_IN_PLANE = 0.05  # pixels by which a pixel may lie off its voxel: texts of headers are rounded
OFF_ACROSS = 0.25  # slices: the steps of a real series vary, while its grid has one step


@dataclass(frozen=True, eq=False)
class Plane:
    """One slice: where its pixels lie, and which image and frame holds them."""

    image: Dataset
    """Header of the file."""
    frame: int | None
    """Index in a multi-frame file; None for a file that is one slice."""
    position: tuple[float, ...]
    """ImagePositionPatient: (3,) centre of the first pixel, LPS mm."""
    orientation: tuple[float, ...]
    """ImageOrientationPatient: directions along a row and down a column, LPS."""
    spacing: tuple[float, ...]
    """PixelSpacing: mm between rows, mm between columns."""
    shape: tuple[int, int]
    """Columns and rows."""

    @cached_property
    def origin(self) -> np.ndarray:
        """(3,) centre of the first pixel, RAS mm."""
        return LPS @ np.array(self.position, dtype=np.float64)

    @cached_property
    def along(self) -> np.ndarray:
        """(3, 2) mm from one column to the next, and from one row to the next, RAS."""
        return LPS @ (
            np.array(self.orientation, dtype=np.float64).reshape(2, 3).T
            * np.array(self.spacing[::-1], dtype=np.float64)
        )

    def on(self, grid: Grid) -> tuple[np.ndarray, np.ndarray] | None:
        """Where the pixels lie on a grid: pixel (column, row) is the voxel `start + steps @ (column, row)`.

        Returns:
            (3,) and (3, 2) whole numbers, or None where the pixels are not voxels of that grid.
        """
        steps = grid.inverse[:3, :3] @ self.along
        start = grid.to_index(self.origin)
        nearest, corner = np.round(steps), np.round(start)
        if not np.array_equal(np.abs(nearest).sum(axis=0), [1, 1]) or np.abs(nearest).sum(axis=1).max() != 1:
            return None
        drift = np.abs(steps - nearest) @ (np.array(self.shape) - 1) + np.abs(start - corner)
        allowed = np.where(np.abs(nearest).sum(axis=1) == 0, OFF_ACROSS, OFF_IN_PLANE)
        return (corner.astype(int), nearest.astype(int)) if (drift <= allowed).all() else None

    def placed(self, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
        """As `on`, of a plane that lies on the grid.

        Raises:
            BadGrid: it does not.
        """
        where = self.on(grid)
        if where is None:
            raise BadGrid(f"a slice at {np.round(self.origin, 1).tolist()} mm RAS does not lie on {grid}")
        return where

    def pixels(self, array: np.ndarray, grid: Grid) -> np.ndarray:
        """(rows, columns) values of `array`, which lies on `grid`; `ordered` has said that they are all
        there.
        """
        start, steps = self.placed(grid)
        columns, rows = (np.arange(n) for n in self.shape)
        index = (
            start[:, None, None]
            + steps[:, 0, None, None] * columns[None, None, :]
            + steps[:, 1, None, None] * rows[None, :, None]
        )
        return array[tuple(index)]

    def to_lps(self, points: np.ndarray) -> np.ndarray:
        """(n, 2) points as (column, row) to (n, 3) LPS mm."""
        return (self.origin + points @ self.along.T) @ LPS


def open_dicom(source: Dataset | Path, pixels: bool = False) -> Dataset:
    """A DICOM file's content, or a dataset as it is.

    Raises:
        NotFound: no such file.
        BadVolume: not a readable DICOM file.
    """
    if isinstance(source, Dataset):
        return source
    try:
        return read_file(Path(source), pixels)[0]
    except FileNotFoundError as error:
        raise NotFound(f"{Path(source).name}: no such DICOM file") from error
    except BROKEN as error:
        raise BadVolume(
            f"{Path(source).name} is not a readable DICOM file ({reason(error)}): export it again"
        ) from error


def planes_of(sources: Sources) -> tuple[Plane, ...]:
    """Every slice of a series, in the order given.

    Raises:
        NotFound, BadVolume: a file that is gone or unreadable, or that is no slice of a volume.
        BadStudy: no images, or images of several series.
    """
    if isinstance(sources, Series):
        if sources.format != "dicom":
            raise BadStudy(
                f"{sources} is a {sources.format} file: a DICOM result refers to the DICOM series that it "
                "was made from; write NIfTI instead"
            )
        with sources.files():
            images = {path: open_dicom(path) for path in dict.fromkeys(path for path, _ in sources.frames)}
        planes = [frame_plane(images[path], frame) for path, frame in sources.frames]
    else:
        planes = [
            frame_plane(image, frame)
            for image in map(open_dicom, sources)
            for frame in range(int(image.get("NumberOfFrames") or 1))
        ]
    if not planes:
        raise BadStudy("no DICOM images to refer to: give the images of the series that was segmented")
    for key in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        found = {str(plane.image.get(key) or "") for plane in planes}
        if len(found) > 1 or "" in found:
            raise BadStudy(
                f"the source images must share one {key}, found "
                f"{len(found - {''})}{' and images without' if '' in found else ''}: give one series"
            )
    return tuple(planes)


def frame_plane(image: Dataset, frame: int = 0) -> Plane:
    """Where one frame of a DICOM image lies.

    Raises:
        BadVolume: the header does not say.
    """
    try:
        position, orientation, spacing = (
            tuple(map(float, cast(Sequence[float], group_value(image, frame, key)))) for key in GEOMETRY
        )
        plane = Plane(
            image,
            frame if "NumberOfFrames" in image else None,
            position,
            orientation,
            spacing,
            (int(image.Columns), int(image.Rows)),
        )
        if (
            plane.origin.shape == (3,)
            and np.isfinite(plane.along).all()
            and (np.abs(plane.along).max(axis=0) > 0).all()
            and min(plane.shape) > 0
        ):
            return plane
        why = "values that no image can have"
    except BROKEN as error:
        why = reason(error)
    name = Path(str(getattr(image, "filename", None) or "the image")).name
    raise BadVolume(
        f"{name}, frame {frame + 1}: no readable {', '.join(GEOMETRY)}, Rows and Columns ({why}): "
        f"it is not a slice of a volume"
    )


def group_value(image: Dataset, frame: int, key: str) -> Sequence[float] | float | None:
    """A field of geometry: of the frame, of all frames, or of the file; None where nobody has it."""
    own = image.get("PerFrameFunctionalGroupsSequence") or ()
    for group in (*own[frame : frame + 1], *(image.get("SharedFunctionalGroupsSequence") or ())):
        if (items := group.get(GROUPS[key])) and key in items[0]:
            return items[0][key].value
    return image.get(key)


def ordered(planes: Sequence[Plane], grid: Grid) -> list[Plane]:
    """The planes of a series along the slice axis of its grid, each slice exactly once.

    Raises:
        BadGrid: the grid is not that of the series.
        BadStudy: several slices in one place.
    """
    far = np.array(grid.shape) - 1
    places: dict[tuple[int, int], Plane] = {}
    for n, plane in enumerate(planes):
        where = plane.on(grid)
        if where is None or not _covers(plane, where, far):
            raise BadGrid(
                f"the label map lies on {grid}, which is not the grid of the source series: its slice "
                f"{n + 1} of {len(planes)} has {plane.shape[0]}x{plane.shape[1]} pixels from "
                f"{np.round(plane.origin, 1).tolist()} mm RAS on. Give the label map on the series' own grid"
            )
        across = int(np.flatnonzero(~where[1].any(axis=1))[0])
        place = (across, int(where[0][across]))
        if place in places:
            raise BadStudy(
                f"the source series has two slices in one place (slice {n + 1} of {len(planes)}): give the "
                "images of one volume (echo, phase, time)"
            )
        places[place] = plane
    if len(places) != grid.shape[across] or len({axis for axis, _ in places}) > 1:
        raise BadGrid(
            f"the label map lies on {grid}, with {grid.shape[across]} slices, but {len(places)} source "
            f"images were given: give every image of the series"
        )
    return [places[place] for place in sorted(places)]


def _covers(plane: Plane, where: tuple[np.ndarray, np.ndarray], far: np.ndarray) -> bool:
    """Whether a plane that lies at `where` (see `Plane.on`) is one whole slice of a grid whose last
    voxel is `far`.
    """
    start, steps = where
    ends = np.stack([start, start + steps @ (np.array(plane.shape) - 1)])
    along = np.flatnonzero(steps.any(axis=1))
    within = bool(((ends >= 0) & (ends <= far)).all())
    return within and all(sorted(ends[:, axis]) == [0, far[axis]] for axis in along)
