"""One picture of a segmentation over all of its case's sequences, to look at beside the file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from slem_app.files import atomic_file
from slem_app.labels import LabelSet
from slem_app.report.pictures import thumbnail
from slem_app.studies import Series
from slem_app.types import Grid
from slem_app.volumes.geometry import resample
from slem_app.volumes.read import read

__all__ = ["preview", "write_preview"]

SIDE = 320  # pixels of a picture
HEAD = 18  # pixels above it, for the sequence's name


def preview(sequences: Mapping[str, Series], array: np.ndarray, grid: Grid, labels: LabelSet) -> np.ndarray:
    """The slice with most of the label in every sequence, side by side, outlined in the colours of the card.

    Args:
        sequences: series by sequence; each may lie on a grid of its own.
        array: (I, J, K) label values.
        grid: where they lie.
        labels: what they mean.

    Returns:
        (H, W, 3) uint8.

    Raises:
        BadVolume, BadGrid: an image that cannot be read.
    """
    colours = {label.value: label.color for label in labels.labels}
    canvas = Image.new("RGB", (SIDE * len(sequences), SIDE + HEAD))
    pen = ImageDraw.Draw(canvas)
    for number, (name, series) in enumerate(sequences.items()):
        image = read(series)
        there = array if grid.same_as(image.grid) else resample(array, grid, image.grid, order=0)
        picture = Image.fromarray(thumbnail(image, there, colours, SIDE))
        left, top = number * SIDE + (SIDE - picture.width) // 2, HEAD + (SIDE - picture.height) // 2
        canvas.paste(picture, (left, top))
        pen.text((number * SIDE + 6, 3), name, fill=(255, 255, 255))
    return np.asarray(canvas)


def write_preview(
    sequences: Mapping[str, Series], array: np.ndarray, grid: Grid, labels: LabelSet, path: Path
) -> Path:
    """Write that picture as PNG; arguments as those of `preview`.

    Raises:
        BadVolume, BadGrid: an image that cannot be read.
        StorageFailed: the disk refused.
    """
    picture = Image.fromarray(preview(sequences, array, grid, labels))
    with atomic_file(path) as file:
        picture.save(file, format="PNG", optimize=True)
    return path
