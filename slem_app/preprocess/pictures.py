"""One picture a case, by which a person sees at a glance whether it may be used."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw
from skimage.measure import find_contours

from slem_app.preprocess.case import PreprocessedCase
from slem_app.types import Grid, triple
from slem_app.volumes.geometry import bounding_box, lattice, resample

__all__ = ["mosaic"]

STEP = 1.0  # mm of a pixel
AROUND = 25.0  # mm that are shown around the mask
LINE, TEXT = (255, 80, 60), (255, 255, 255)
HEAD = 16  # pixels of a line of text


def mosaic(case: PreprocessedCase) -> bytes:
    """A PNG: a row a sequence; axial, coronal and sagittal slices through the mask's middle, and its outline.

    Slices hang as radiologists have it: right on the left, anterior or superior on top, anterior on the left
    of the sagittal one.
    """
    whole = lattice([case.grid], (STEP,) * 3)
    mask = resample(case.mask.astype(np.float32), case.grid, whole, order=1) > 0.5
    box = _around(mask)
    grid = whole.crop(triple(s.start for s in box), triple(s.stop - s.start for s in box))
    mask = mask[box]
    middle = triple((s.start + s.stop) // 2 for s in bounding_box(mask))
    rows = [_row(name, case, grid, mask, middle) for name in case.images]
    canvas = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)))
    for number, row in enumerate(rows):
        canvas.paste(row, (0, number * row.height))
    data = io.BytesIO()
    canvas.save(data, format="PNG", optimize=True)
    return data.getvalue()


def _around(mask: np.ndarray) -> tuple[slice, slice, slice]:
    """The mask's box with what is shown around it."""
    more = round(AROUND / STEP)
    there = bounding_box(mask) if mask.any() else triple(slice(0, n) for n in mask.shape)
    return triple(
        slice(max(0, s.start - more), min(n, s.stop + more)) for s, n in zip(there, mask.shape, strict=True)
    )


def _row(
    name: str, case: PreprocessedCase, grid: Grid, mask: np.ndarray, middle: tuple[int, int, int]
) -> Image.Image:
    """One sequence under a line of text."""
    image = case.images[name]
    shades = _grey(resample(image, case.grid, grid, order=1, fill=float(image.min())), mask)
    tiles = [_tile(shades, mask, axis, middle[axis]) for axis in (2, 1, 0)]
    row = Image.new("RGB", (sum(tile.width for tile in tiles), HEAD + max(tile.height for tile in tiles)))
    ImageDraw.Draw(row).text((4, 3), _said(name, case), fill=TEXT)
    left = 0
    for tile in tiles:
        row.paste(tile, (left, HEAD))
        left += tile.width
    return row


def _said(name: str, case: PreprocessedCase) -> str:
    """What was done to a sequence, in the signs that the built-in font has."""
    moved = case.report.moved.get(name)
    how = "reference" if name == case.reference else f"moved {moved:.1f} mm" if moved else "not moved"
    return f"{case.id}  {name}: {how}".encode("ascii", "replace").decode()


def _grey(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """(I, J, K) uint8, black at the dark end of the mask's intensities or of the image's."""
    inside = image[mask] if mask.any() else image
    low, high = np.percentile(inside, [1, 99.5])
    low = min(float(low), float(image.min())) if image.min() >= 0 else float(low)
    return (255 * np.clip((image - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)


def _tile(shades: np.ndarray, mask: np.ndarray, axis: int, number: int) -> Image.Image:
    """A slice of RAS arrays, with the mask's outline."""
    plane = shades.take(number, axis=axis).T[::-1, ::-1]
    tile = Image.fromarray(np.ascontiguousarray(plane)).convert("RGB")
    pen = ImageDraw.Draw(tile)
    outline = mask.take(number, axis=axis).T[::-1, ::-1]
    for line in find_contours(np.pad(outline, 1).astype(np.float32), 0.5):
        pen.line((line[:, ::-1] - 1).ravel().tolist(), fill=LINE)
    return tile
