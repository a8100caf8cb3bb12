"""Slices of a DICOM series: their order and their grid (PS3.3 C.7.6.2).

pydicom speaks LPS; only here it becomes RAS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from pydicom.uid import UID

from slem_app.errors import BadVolume
from slem_app.studies.dicom_header import Header
from slem_app.types import Grid

__all__ = ["grid", "in_order", "position", "summary"]

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def position(header: Header) -> tuple[float, ...] | None:
    """ImageOrientationPatient and ImagePositionPatient, rounded so that equal slices compare equal; None
    without them.
    """
    orientation, origin = header.get("ImageOrientationPatient"), header.get("ImagePositionPatient")
    if (
        not isinstance(orientation, tuple)
        or not isinstance(origin, tuple)
        or len(orientation) != 6
        or len(origin) != 3
    ):
        return None
    return tuple(round(float(n), 3) for n in (*orientation, *origin))


def normal(header: Header) -> np.ndarray:
    """(3,) unit vector across the slice, LPS."""
    orientation = np.array(header["ImageOrientationPatient"], dtype=np.float64)
    across = np.cross(orientation[:3], orientation[3:])
    return across / max(float(np.linalg.norm(across)), 1e-9)


def in_order(slices: Sequence[Header]) -> tuple[Header, ...]:
    """The slices along their common normal; by InstanceNumber where a slice has no position."""
    if not slices or any(position(part) is None for part in slices):
        return tuple(sorted(slices, key=lambda part: (int(part.get("InstanceNumber", 0)), part["frame"])))
    across = normal(slices[0])
    return tuple(
        sorted(
            slices, key=lambda part: float(across @ np.array(part["ImagePositionPatient"], dtype=np.float64))
        )
    )


def summary(slices: Sequence[Header]) -> Header:
    """The fields of the first slice, with NumberOfSlices and NumberOfOrientations counted."""
    places = [position(part) for part in slices]
    directions = {tuple(round(n, 1) for n in place[:6]) for place in places if place}
    first = {key: value for key, value in slices[0].items() if key not in ("path", "frame", "pixels_at")}
    return first | {"NumberOfSlices": len(slices), "NumberOfOrientations": len(directions)}


def grid(slices: Sequence[Header], what: str) -> Grid:
    """The grid of slices that are already in order: I along a row, J down a column, K from slice to slice,
    RAS mm.

    Args:
        slices: headers, see `in_order`.
        what: name of the series, for messages.

    Raises:
        BadVolume: no geometry, several orientations or sizes, two slices in one place, a missing slice, a
            truncated file.
    """
    found = [position(part) for part in slices]
    places = [place for place in found if place is not None]
    if len(places) < len(found) or any(len(part.get("PixelSpacing", ())) != 2 for part in slices):
        raise BadVolume(
            f"{what} is not a volume: a file without ImagePositionPatient, ImageOrientationPatient or "
            f"PixelSpacing (a screenshot?)"
        )
    if any(not part.get(key) for part in slices for key in ("Rows", "Columns")):
        raise BadVolume(
            f"{what} is not a volume: a file does not say how many rows and columns it has. Export it again"
        )
    for key in ("Rows", "Columns", "PixelSpacing"):
        if len(values := {part.get(key) for part in slices}) > 1:
            raise BadVolume(
                f"{what} is not one volume: its slices differ in {key}, {sorted(map(str, values))}"
            )
    orientations = np.array([place[:6] for place in places])
    if np.abs(orientations - orientations[0]).max() > 0.01:
        raise BadVolume(f"{what} is not one volume: its slices have several orientations (a localiser?)")
    for part in slices:
        _check_file_size(part)
    step = _step(slices, what)
    first = slices[0]
    spacing = np.array(first["PixelSpacing"], dtype=np.float64)
    direction = np.array(first["ImageOrientationPatient"], dtype=np.float64)
    affine = np.eye(4)
    affine[:3, 0] = LPS_TO_RAS @ direction[:3] * spacing[1]  # PixelSpacing is (row distance, column distance)
    affine[:3, 1] = LPS_TO_RAS @ direction[3:] * spacing[0]
    affine[:3, 2] = LPS_TO_RAS @ step
    affine[:3, 3] = LPS_TO_RAS @ np.array(first["ImagePositionPatient"], dtype=np.float64)
    return Grid((int(first["Columns"]), int(first["Rows"]), len(slices)), affine)


def _step(slices: Sequence[Header], what: str) -> np.ndarray:
    """(3,) LPS mm from one slice to the next; refuses uneven steps."""
    origins = np.array([part["ImagePositionPatient"] for part in slices], dtype=np.float64)
    if len(slices) == 1:
        thickness = slices[0].get("SpacingBetweenSlices") or slices[0].get("SliceThickness") or 1.0
        return normal(slices[0]) * abs(float(thickness))
    gaps = np.diff(origins @ normal(slices[0]))
    usual = float(np.median(gaps))
    if gaps.min() < 0.01:
        twice = int((gaps < 0.01).sum())
        raise BadVolume(
            f"{what} holds {twice} slices twice in one place: several images under one SeriesInstanceUID "
            f"(echoes, phases, times)"
        )
    if (odd := np.abs(gaps - usual) > max(0.1 * usual, 0.02)).any():
        k = int(np.flatnonzero(odd)[0])
        raise BadVolume(
            f"{what} misses slices: {gaps[k]:.2f} mm from slice {k + 1} to {k + 2} of {len(slices)} where "
            f"{usual:.2f} mm is usual. Export it again"
        )
    return (origins[-1] - origins[0]) / (len(slices) - 1)


def _check_file_size(part: Header) -> None:
    """Refuse an uncompressed file that is too short for its pixels; one that is not here yet is checked when
    it comes.
    """
    if "pixels_at" not in part:
        return
    if (syntax := str(part.get("TransferSyntaxUID", ""))) and (
        UID(syntax).is_private or (UID(syntax).is_transfer_syntax and UID(syntax).is_compressed)
    ):
        return
    needed = int(part.get("Rows", 0)) * int(part.get("Columns", 0)) * int(part.get("BitsAllocated", 16)) // 8
    needed *= int(part.get("SamplesPerPixel", 1)) * int(part.get("NumberOfFrames", 1))
    size = part["path"].stat().st_size - int(part["pixels_at"]) - 8  # tag, VR and length
    if size < needed:
        raise BadVolume(
            f"{part['path']} is truncated: {max(size, 0)} bytes of pixels where {needed} are promised. "
            f"Export it again"
        )
