"""What a reader asks of an interactive model: the prompts of either client's request, on the displayed image.

Clients send all clicks with every request. 3D Slicer (SmartEdit) and OHIF (Point Prompts) list them by label
name, `background` among them; the older convention sends `foreground` and `background` of the one label named
in `label`, and leaves the other labels' clicks unsaid. Indices are voxels of the displayed image, the one
whose id is in the request, in the order in which the client has them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from slem_app.errors import BadGrid, BadPrompt
from slem_app.formats import place, read_label_file
from slem_app.labels import LabelSet
from slem_app.prompts import (
    Box,
    Click,
    Mask,
    Prompts,
    Scribble,
    read_box,
    read_clicks,
    read_reaches,
    read_scribbles,
    read_strokes,
)
from slem_app.serving.cases.label_names import value_names
from slem_app.serving.models.inference import InferRequest
from slem_app.types import Grid

__all__ = ["PromptRequest", "parse_clicks", "parse_scribbles"]


@dataclass(frozen=True)
class PromptRequest:
    """One request."""

    clicks: tuple[Click, ...] = ()
    """All clicks that the client lists."""
    only: str | None = None
    """The label that the clicks are about, foreground and background, where the client lists those of one
    label alone; None: of all labels.
    """
    scribbles: tuple[Scribble, ...] | None = None
    """What is painted; None: the client does not say."""
    box: Box | None = None
    """Where labels may be."""
    mask: Mask | None = None
    """A segmentation as the reader edited it."""
    painted_over: bool = False
    """The scribbles hide what the mask has below them, and hold again whenever they are sent."""
    undo: bool = False
    """Take the last step back instead."""
    redo: bool = False
    """Do the step again that was taken back last."""
    start_over: bool = False
    """Forget what was before."""
    exact: Prompts | None = None
    """All prompts that count, in order, where the client keeps the list itself; then nothing else counts."""


def parse_clicks(
    request: InferRequest, labels: LabelSet, image: Grid, displayed: Grid | None = None
) -> PromptRequest:
    """The prompts of a client that clicks.

    Args:
        request: what came.
        labels: the model's.
        image: grid of the displayed image.
        displayed: the same as the client has it, whose voxels points and box are; None: in the same order.

    Raises:
        BadPrompt: points or a box that cannot be used.
        BadGrid, BadLabel, BadVolume, TooLarge: a segmentation that cannot be used.
    """
    displayed = displayed or image
    clicks = tuple(dict.fromkeys(read_clicks({**request.points, "label": request.label}, labels, displayed)))
    mask = request.start
    if request.label_file is not None:
        array, grid, names = read_label_file(request.label_file, image)
        values = value_names(request.segments, names, labels)
        mask = Mask(labels.remap(_placed(array, grid, image), values), image)
    one_label = request.points.get("foreground") is not None and request.label in labels.names
    strokes = None if request.scribbles is None else read_strokes(request.scribbles, labels, displayed)
    return PromptRequest(
        read_reaches(request.reaches, clicks, labels, displayed),
        request.label if one_label else None,
        strokes,
        read_box({"roi": request.box}, displayed),
        mask,
        undo=request.undo,
        redo=request.redo,
        start_over=request.start_over,
    )


def parse_scribbles(
    request: InferRequest, labels: LabelSet, image: Grid, displayed: Grid | None = None
) -> tuple[PromptRequest, str]:
    """The prompts of 3D Slicer's Scribbles: a label map of all segments, two of them painted; and the label
    that is meant. Arguments as those of `parse_clicks`.

    Raises:
        BadPrompt: no label map, or one that does not belong to the image.
        BadGrid, BadLabel, BadVolume, TooLarge: a label map that cannot be used.
    """
    label = request.painted_label
    back = PromptRequest(undo=request.undo, redo=request.redo, start_over=request.start_over)
    if request.label_file is None:
        if back == PromptRequest():
            raise BadPrompt(
                "no scribbles came: paint foreground or background, then press the button for the update"
            )
        return back, label if label in labels.names else ""
    array, grid, names = read_label_file(request.label_file, image)
    names = names or dict(enumerate(request.segments or (), 1))
    scribbles, mask = read_scribbles(_placed(array, grid, image), image, names, labels, label, image)
    box = read_box({"roi": request.box}, displayed or image)
    return replace(back, scribbles=scribbles, box=box, mask=mask, painted_over=True), label


def _placed(array: np.ndarray, grid: Grid, image: Grid) -> np.ndarray:
    try:
        return place(array, grid, image, "the segmentation that was sent")
    except BadGrid as error:
        raise BadPrompt(f"{error}; send it on the image that is displayed") from error
