"""A picture of samples with their classes, to look at before a long training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from slem_app.pretext.recipe import PretextRecipe
from slem_app.pretext.samples import Samples, annotate, usable
from slem_app.pretext.task import Sample
from slem_app.volumes.cache import CaseCache

__all__ = ["preview"]

LINE = 13  # pixels of a line of text
ZOOM = 2


def preview(recipe: PretextRecipe, cache: CaseCache, ids: Sequence[str], path: Path, count: int = 8) -> Path:
    """Write a PNG: a row of axial, coronal and sagittal middle slices for each sample, with its case and
    class beside them.

    Args:
        recipe: task and settings.
        cache: prepared cases.
        ids: those to draw from.
        path: of the PNG.
        count: samples.

    Raises:
        BadStudy: no case that the task can use.
    """
    used, _ = usable(cache, sorted(ids), recipe.task, recipe.sequences)
    annotate(cache, used[:count], recipe.task)
    samples = Samples(
        cache,
        used[:count],
        recipe.task,
        recipe.settings.view,
        recipe.network.multiple,
        count,
        recipe.settings.seed,
    )
    rows = [
        _row(samples[n], [samples.case(n), *recipe.task.describe(samples[n], recipe.sequences)])
        for n in range(count)
    ]
    width = max(row.width for row in rows)
    sheet = Image.new("L", (width, sum(row.height + 4 for row in rows)), 30)
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + 4
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _row(sample: Sample, text: Sequence[str]) -> Image.Image:
    """One sample: for every slot its three middle slices, then its text."""
    images = sample.inputs["images"].numpy()
    shown = [
        _grey(cut)
        for image in images[: 4 if len(images) > 1 else 1]
        for cut in (_slices(image) if len(images) == 1 else _slices(image)[:1])
    ]
    label = Image.new("L", (max(260, 7 * max(map(len, text)) + 12), max(one.height for one in shown)), 30)
    ImageDraw.Draw(label).multiline_text((6, 6), "\n".join(text), fill=240, spacing=LINE - 9)
    parts = [*shown, label]
    row = Image.new("L", (sum(one.width + 2 for one in parts), label.height), 30)
    left = 0
    for one in parts:
        row.paste(one, (left, 0))
        left += one.width + 2
    return row


def _slices(image: np.ndarray) -> list[np.ndarray]:
    """Axial, coronal and sagittal slices near the middle, off it so that no cut runs along them; right side
    on the viewer's left.
    """
    i, j, k = (int(n * 0.36) for n in image.shape)
    return [image[::-1, ::-1, k].T, image[::-1, j, ::-1].T, image[i, ::-1, ::-1].T]


def _grey(cut: np.ndarray) -> Image.Image:
    shade = np.where(cut == 0, 0, np.clip((cut + 2.5) / 5, 0.03, 1))
    picture = Image.fromarray((shade * 255).astype(np.uint8))
    return picture.resize((picture.width * ZOOM, picture.height * ZOOM))
