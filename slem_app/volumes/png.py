"""A truth that was drawn slice by slice and saved as PNG files, as CHAOS does: grey values, one file a slice
of a DICOM series.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from slem_app.errors import BadLabel, BadVolume
from slem_app.studies import Series
from slem_app.types import Grid

__all__ = ["read_png"]

# what Pillow raises for damaged files
UNREADABLE = (UnidentifiedImageError, OSError, SyntaxError, ValueError)
GREY = ("1", "L", "P", "I", "I;16")


def read_png(series: Series) -> tuple[np.ndarray, Grid]:
    """Read a stack of PNG files onto the grid of the series that it was drawn on.

    A file belongs to the slice whose DICOM file has its name; where no name is shared, the numbers in the
    names tell the order.

    Returns:
        (I, J, K) float32 grey values, and the grid of `series.on`.

    Raises:
        BadLabel: a slice without a file, a file without a slice, or one of another size.
        BadVolume: a file that cannot be read or is in colour, or a series that makes no volume.
    """
    if series.on is None:
        raise BadVolume(f"{series.id}: PNG files without the series that they are drawn on")
    grid, slices = series.on.grid, [path for path, _ in series.on.frames]
    array = np.zeros(grid.shape, dtype=np.float32)
    for k, path in enumerate(_in_order(series, series.on.name, slices)):
        plane = _plane(path, series.id)
        if plane.shape != (grid.shape[1], grid.shape[0]):
            raise BadLabel(
                f"{series.id}: {path.name} has {plane.shape[1]}x{plane.shape[0]} pixels, but the slices of "
                f"{series.on.name} have {grid.shape[0]}x{grid.shape[1]}: was it drawn on another series, or "
                "exported with another size?"
            )
        array[:, :, k] = plane.T
    return array, grid


def _in_order(series: Series, drawn_on: str, slices: Sequence[Path]) -> list[Path]:
    """The file of every slice of the series called `drawn_on`.

    Raises:
        BadLabel: not one file a slice.
    """
    by_name = {path.stem.lower(): path for path in series.paths}
    names = [path.stem.lower() for path in slices]
    if by_name.keys() & set(names):
        missing = [path.name for path in slices if path.stem.lower() not in by_name]
        spare = sorted(by_name[name].name for name in by_name.keys() - set(names))
        if missing or spare:
            without = (
                f"{len(missing)} of {len(slices)} slices have no PNG file "
                f"({', '.join(missing[:4])}{', ...' if len(missing) > 4 else ''})"
            )
            beside = f"{len(spare)} files belong to no slice ({', '.join(spare[:4])})"
            wrong = " and ".join([without] * bool(missing) + [beside] * bool(spare))
            raise BadLabel(f"{series.id}: {wrong}: add or remove files; an empty slice needs a black one")
        return [by_name[name] for name in names]
    if len(series.paths) != len(slices):
        raise BadLabel(
            f"{series.id}: {len(series.paths)} PNG files for the {len(slices)} slices of "
            f"{drawn_on}, and their names do not tell which is which: "
            "name each as its slice's DICOM file, or give one a slice"
        )
    order = {path: place for place, path in enumerate(sorted(slices, key=_number))}
    files = sorted(series.paths, key=_number)
    return [files[order[path]] for path in slices]


def _number(path: Path) -> tuple[int, str]:
    """The last number in a file's name, and the name."""
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else 0, path.name)


def _plane(path: Path, what: str) -> np.ndarray:
    """(rows, columns) of one file."""
    try:
        with Image.open(path) as image:
            mode, plane = image.mode, np.array(image)
    except UNREADABLE as error:
        raise BadVolume(
            f"{what}: {path.name} is no readable PNG file ({error}): copy or export it again"
        ) from error
    if mode not in GREY:
        raise BadVolume(
            f"{what}: {path.name} is a picture in colour ({mode}): a truth has one grey value a pixel; "
            f"save it as 8 bit grey"
        )
    return plane.astype(np.float32)
