"""The slices of a report: every sequence at the place where the finding is largest, with outlines.

Slices are shown as radiologists hang them: the patient's right on the left of an axial or coronal picture,
anterior or superior on top, anterior on the left of a sagittal one.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw
from scipy.ndimage import map_coordinates
from skimage.measure import find_contours

from slem_app.labels import LabelSet, Region
from slem_app.measure import Bidirectional, Measurements, acquired_along
from slem_app.report.contents import RESEARCH, Contents
from slem_app.types import Grid
from slem_app.volumes.levels import Volume

__all__ = ["draw", "main_diameters", "sheet", "spot", "thumbnail"]

PIXEL = 0.4  # mm
BORDER = 12  # pixels around the head
LINE = (255, 255, 255)
THUMBNAIL = 192  # pixels of its longer side
AROUND = 40.0  # mm that are shown on each side of a place
HEAD = 20  # pixels of a line of text above pictures
RING = 16  # pixels from a place's centre to the ring around it


def main_diameters(found: Measurements, labels: LabelSet) -> Bidirectional | None:
    """The diameters of the largest lesion of the innermost region that has one, e.g. enhancing tumor."""
    structures = {one.name: one for one in found.structures}
    inwards = sorted(labels.regions, key=_size)
    for region in inwards:
        one = structures.get(region.labels[0] if _size(region) == 1 else region.name)
        if one is not None and one.diameters:
            return one.diameters
    return None


def draw(
    images: Mapping[str, Volume],
    label_map: np.ndarray,
    grid: Grid,
    labels: LabelSet,
    found: Measurements,
    cross: bool = True,
) -> dict[str, np.ndarray]:
    """A picture of each sequence in the same slice of the label's grid.

    Args:
        images: the sequences by name, on grids of their own.
        label_map: (I, J, K) label values.
        grid: where they lie.
        labels: values and colours.
        found: what was measured, whose main diameters lie in the slice.
        cross: draw them.

    Returns:
        (H, W, 3) uint8 by the sequence's name; all of one size.
    """
    pair = main_diameters(found, labels)
    number = pair.slice if pair else label_map.shape[found.along] // 2
    sheet = _Sheet.of(grid, found.along, number)
    place = np.moveaxis(grid.to_index(sheet.world()), -1, 0)
    outlines = [
        (label.color, line) for label in labels.labels for line in _outlines(label_map == label.value, place)
    ]
    ends = sheet.pixels(np.array(pair.ends)) if pair and cross else np.zeros((0, 2))
    views = {name: _shades(image, sheet) for name, image in images.items()}
    box = _head(np.any([view > view.min() for view in views.values()], axis=0))
    shift = np.array([box[1].start, box[0].start])  # column, row
    pictures = {}
    for name, view in views.items():
        canvas = Image.fromarray(_window(view[box])).convert("RGB")
        pen = ImageDraw.Draw(canvas)
        for colour, outline in outlines:
            pen.line((outline - shift).ravel().tolist(), fill=colour, width=2)
        for first, last in zip(ends[::2] - shift, ends[1::2] - shift, strict=True):
            pen.line([*first, *last], fill=LINE, width=1)
        pictures[name] = np.asarray(canvas)
    return pictures


def thumbnail(
    image: Volume,
    label_map: np.ndarray | None = None,
    colours: Mapping[int, tuple[int, int, int]] | None = None,
    size: int = THUMBNAIL,
) -> np.ndarray:
    """One small slice of an image: where most of the label is, else through the middle of what is bright.

    Args:
        image: the sequence.
        label_map: (I, J, K) label values on the image's grid; None: no label.
        colours: label value -> sRGB; values that are not in it are not outlined.
        size: pixels of its longer side.

    Returns:
        (H, W, 3) uint8.
    """
    along = acquired_along(image.grid)
    shown = label_map if label_map is not None and label_map.any() else None
    number = _fullest(shown != 0, along) if shown is not None else _middle(image.array, along)
    sheet = _Sheet.of(image.grid, along, number)
    view = _shades(image, sheet)
    box = _head(view > view.mean())
    shift = np.array([box[1].start, box[0].start])  # column, row
    canvas = Image.fromarray(_window(view[box])).convert("RGB")
    scale = size / max(canvas.size)
    width, height = (max(1, round(side * scale)) for side in canvas.size)
    canvas = canvas.resize((width, height), Image.Resampling.BOX)
    if shown is not None:
        pen, place = ImageDraw.Draw(canvas), np.moveaxis(image.grid.to_index(sheet.world()), -1, 0)
        for value, colour in (colours or {}).items():
            for outline in _outlines(shown == value, place):
                pen.line(((outline - shift) * scale).ravel().tolist(), fill=colour, width=2)
    return np.asarray(canvas)


def sheet(contents: Contents) -> np.ndarray:
    """The pictures of a report beside each other, under what it says of itself.

    Returns:
        (H, W, 3) uint8.
    """
    shown = list(contents.pictures.items())[:4]
    height, width = shown[0][1].shape[:2]
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    canvas = Image.new("RGB", (columns * width, HEAD + rows * (height + HEAD)))
    pen = ImageDraw.Draw(canvas)
    pen.text((6, 4), f"{contents.status}. {RESEARCH}", fill=LINE)
    for number, (title, picture) in enumerate(shown):
        left, top = (number % columns) * width, HEAD + (number // columns) * (height + HEAD)
        pen.text((left + 6, top + 4), title, fill=LINE)
        canvas.paste(Image.fromarray(picture), (left, top + HEAD))
    return np.asarray(canvas)


def spot(
    image: Volume,
    centre: tuple[float, float, float],
    label_map: np.ndarray | None = None,
    colours: Mapping[int, tuple[int, int, int]] | None = None,
) -> np.ndarray:
    """The slice of an image through a place, AROUND it alone, with a ring there.

    Args:
        image: the sequence.
        centre: the place, RAS mm.
        label_map: (I, J, K) label values on the image's grid; None: no label.
        colours: label value -> sRGB; values that are not in it are not outlined.

    Returns:
        (H, W, 3) uint8.
    """
    along = acquired_along(image.grid)
    number = int(
        np.clip(round(float(image.grid.to_index(np.asarray(centre))[along])), 0, image.array.shape[along] - 1)
    )
    sheet = _Sheet.of(image.grid, along, number)
    view = _shades(image, sheet)
    column, row = sheet.pixels(np.array([centre]))[0]
    reach = round(AROUND / PIXEL)
    left, top = (
        int(np.clip(round(one) - reach, 0, max(0, side - 2 * reach)))
        for one, side in ((column, view.shape[1]), (row, view.shape[0]))
    )
    canvas = Image.fromarray(_window(view)).convert("RGB")
    pen = ImageDraw.Draw(canvas)
    if label_map is not None:
        place = np.moveaxis(image.grid.to_index(sheet.world()), -1, 0)
        for value, colour in (colours or {}).items():
            for outline in _outlines(label_map == value, place):
                pen.line(outline.ravel().tolist(), fill=colour, width=1)
    pen.ellipse((column - RING, row - RING, column + RING, row + RING), outline=LINE, width=2)
    return np.asarray(canvas.crop((left, top, left + 2 * reach, top + 2 * reach)))


def _fullest(mask: np.ndarray, along: int) -> int:
    """The slice with most voxels of a mask."""
    others = tuple(axis for axis in range(3) if axis != along)
    return int(mask.sum(axis=others).argmax())


def _middle(array: np.ndarray, along: int) -> int:
    """The slice through the centre of what is brighter than the mean."""
    others = tuple(axis for axis in range(3) if axis != along)
    counts = (array > array.mean()).sum(axis=others)
    return round(float(np.average(np.arange(len(counts)), weights=counts)))


class _Sheet:
    """The paper of one slice: pixels of PIXEL mm, hung as radiologists do."""

    def __init__(
        self, corner: np.ndarray, right: np.ndarray, down: np.ndarray, size: tuple[int, int]
    ) -> None:
        self.corner, self.right, self.down, self.size = corner, right, down, size

    @classmethod
    def of(cls, grid: Grid, along: int, number: int) -> _Sheet:
        nearest = np.abs(grid.axes).argmax(axis=0)
        across, upright = sorted((axis for axis in range(3) if axis != along), key=nearest.__getitem__)
        corner = np.zeros(3)
        corner[along] = number
        steps, lengths = [], []
        for axis in (across, upright):
            direction = grid.axes[:, axis]
            towards = -1 if direction[nearest[axis]] > 0 else 1  # right, anterior and superior come first
            corner[axis] = grid.shape[axis] - 1 if towards < 0 else 0
            steps.append(towards * PIXEL * direction)
            lengths.append(int(np.ceil((grid.shape[axis] - 1) * grid.spacing[axis] / PIXEL)) + 1)
        return cls(grid.to_world(corner), steps[0], steps[1], (lengths[1], lengths[0]))

    def world(self) -> np.ndarray:
        """(H, W, 3) RAS mm of the pixels."""
        rows, columns = (np.arange(n)[..., None] for n in self.size)
        return self.corner + rows[:, None] * self.down + columns[None] * self.right

    def pixels(self, world: np.ndarray) -> np.ndarray:
        """(N, 3) RAS mm -> (N, 2) column and row."""
        basis = np.stack([self.right, self.down], axis=1)
        return np.linalg.lstsq(basis, (world - self.corner).T, rcond=None)[0].T


def _shades(image: Volume, sheet: _Sheet) -> np.ndarray:
    """(H, W) intensities of a sequence on the sheet."""
    index = np.moveaxis(image.grid.to_index(sheet.world()), -1, 0)
    return map_coordinates(image.array, index, order=1, mode="constant", cval=0.0)


def _head(there: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of what is not empty, with a border."""
    if not there.any():
        return slice(0, there.shape[0]), slice(0, there.shape[1])
    index = np.argwhere(there)
    (top, left), (bottom, right) = index.min(axis=0) - BORDER, index.max(axis=0) + BORDER + 1
    return slice(max(top, 0), bottom), slice(max(left, 0), right)


def _outlines(mask: np.ndarray, place: np.ndarray) -> list[np.ndarray]:
    """(N, 2) column and row around a mask where the sheet's pixels lie in it, (3, H, W) voxel indices."""
    inside = map_coordinates(mask.astype(np.float32), place, order=1)
    return [line[:, ::-1] - 1 for line in find_contours(np.pad(inside, 1), 0.5)]


def _size(region: Region) -> int:
    return len(region.labels)


def _window(shades: np.ndarray) -> np.ndarray:
    """Grey levels between the 1st and the 99.5th percentile of what is not empty."""
    inside = shades[shades > 0]
    low, high = np.percentile(inside, [1, 99.5]) if inside.size else (0.0, 1.0)
    return (255 * np.clip((shades - low) / max(high - low, 1e-6), 0, 1)).astype(np.uint8)
