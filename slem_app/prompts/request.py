"""Prompts from the fields that 3D Slicer and OHIF send: IJK lists by label name, or foreground and background
of one label; `roi`; scribbles as a label map (3D Slicer's MONAILabel module) or as strokes.

Indices are always those of the displayed image (the one whose id is in the request). Keys that are settings
are passed over, but a list of points under an unknown name is an error: a misspelt label must not lose its
clicks silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from slem_app.errors import BadLabel, BadPrompt
from slem_app.labels import LabelSet
from slem_app.prompts.checks import check_label, check_reach, size_of, whole_index
from slem_app.prompts.closed import enclosed
from slem_app.prompts.prompts import BACKGROUND, Box, Click, Mask
from slem_app.prompts.scribble import Scribble
from slem_app.types import Grid

__all__ = ["read_box", "read_clicks", "read_reaches", "read_scribbles", "read_strokes"]

# Slicer's names for what is painted; other segments are the existing result
PAINTED = ("foreground_scribbles", "background_scribbles")


def read_clicks(params: Mapping[str, Any], labels: LabelSet, grid: Grid) -> tuple[Click, ...]:
    """The clicks of a request, label by label.

    Args:
        params: fields of the request. deepedit: {label name: [[i, j, k], ...], 'background': [...]};
            deepgrow: 'foreground' and 'background', with the label's name in 'label'.
        labels: the model's.
        grid: of the displayed image.

    Raises:
        BadPrompt: not a list of points, a point outside the image or not whole, an unknown label.
    """
    for name, value in params.items():
        if name not in (*labels.names, "background", "foreground") and _looks_like_points(value):
            raise BadPrompt(
                f"clicks came for the unknown label {name!r}: this model has "
                f"{', '.join(labels.names)} and "
                f"background"
            )
    clicks = [click for name in labels.names for click in _points(params.get(name), name, labels, grid)]
    if params.get("foreground"):
        label = params.get("label")
        if label not in labels.names:
            raise BadPrompt(
                f"foreground clicks came for the label {label!r}: give `label`, one of "
                f"{', '.join(labels.names)}"
            )
        clicks += _points(params["foreground"], label, labels, grid)
    return (*clicks, *_points(params.get("background"), BACKGROUND, labels, grid))


def read_reaches(value: object, clicks: Sequence[Click], labels: LabelSet, grid: Grid) -> tuple[Click, ...]:
    """The clicks of a request with how far the answer to each goes.

    Args:
        value: [{"label": name, "voxel": [i, j, k], "reach": number from -1 to 1}, ...], of clicks that the
            request lists; the label may be 'background'. None: no click has another reach than 0.
        clicks: of the request.
        labels: the model's.
        grid: of the displayed image.

    Raises:
        BadPrompt: another shape, a reach that cannot be, a click that is not listed.
    """
    if value is None:
        return tuple(clicks)
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadPrompt(f"reaches is {str(value)[:80]!r}: a list of label, voxel and reach is needed")
    reaches: dict[Click, float] = {}
    for number, one in enumerate(value, 1):
        if not isinstance(one, Mapping) or not isinstance(one.get("label"), str):
            raise BadPrompt(f"reach {number} is {str(one)[:80]!r}: label, voxel and reach are needed")
        name, what = one["label"], f"click {number} under reaches"
        meant = BACKGROUND if name == "background" else name
        click = Click.on(grid, one.get("voxel", ()), meant, labels, what)
        if click not in clicks:
            raise BadPrompt(f"{what}, of {name!r} at {one['voxel']}, is not among the clicks of the request")
        reaches[click] = check_reach(one.get("reach"), what)
    return tuple(replace(click, reach=reaches.get(click, 0.0)) for click in clicks)


def read_box(params: Mapping[str, Any], grid: Grid) -> Box | None:
    """The box of a request: `roi` = [i1, i2, j1, j2, k1, k2], each pair in any order; None where there is
    none.

    Raises:
        BadPrompt: not six whole numbers, or outside the image.
    """
    roi = params.get("roi")
    if roi is None or (isinstance(roi, Sequence) and len(roi) == 0):
        return None
    if not isinstance(roi, Sequence) or isinstance(roi, str) or len(roi) != 6:
        raise BadPrompt(f"roi is {roi!r}: six whole numbers are needed, the two ends along I, then J, then K")
    low, high = (whole_index(list(roi[n::2]), "roi", grid) for n in (0, 1))
    return Box.on(grid, low, high)


def read_scribbles(
    array: np.ndarray, grid: Grid, names: Mapping[int, str], labels: LabelSet, label: str, image: Grid
) -> tuple[tuple[Scribble, ...], Mask | None]:
    """Slicer's scribble label map: painted foreground and background of one label, and the segments that
    exist beside them.

    Args:
        array: (I, J, K) values.
        grid: of `array`.
        names: value -> segment name, from the request's `label_info`.
        labels: the model's.
        label: the label that foreground means.
        image: grid of the displayed image.

    Returns:
        The scribbles, and the existing segmentation if there is any.

    Raises:
        BadPrompt: another grid than the image's, or an unknown label.
        BadLabel: a value without a name, or a segment that is no label of the model.
    """
    if not grid.same_as(image):
        raise BadPrompt(
            f"the scribbles lie on the grid {grid}, the image on {image}: paint them on the "
            f"image that is "
            f"segmented"
        )
    check_label(label, labels, "the scribble")
    values = [int(v) for v in np.unique(array) if v != 0]
    if unknown := [v for v in values if v not in names]:
        raise BadLabel(
            f"the scribbles hold the values {unknown} that label_info does not name; it names {dict(names)}"
        )
    meaning = {PAINTED[0]: label, PAINTED[1]: BACKGROUND}
    found = tuple(Scribble.of(meaning[names[v]], array == v, grid) for v in values if names[v] in meaning)
    others = {v: names[v] for v in values if names[v] not in meaning}
    if not others:
        return found, None
    existing = np.where(np.isin(array, list(others)), array, 0)
    return found, Mask(
        labels.remap(existing, {v: "" if name == "background" else name for v, name in others.items()}), grid
    )


def read_strokes(value: object, labels: LabelSet, grid: Grid) -> tuple[Scribble, ...]:
    """Scribbles that a client lists one by one, each once.

    Args:
        value: [{"label": name, "runs": [[i, j, k, n], ...]}, ...]: n voxels along I from (i, j, k) on; the
            label may be 'background'. With "outline": true these are all voxels inside an outline that was
            drawn in a slice: outside of it the label does not spread in that slice. With false they are what
            they are; without it, a closed line in one slice is such an outline (`enclosed`). "reach", from
            -1 to 1: how far the answer goes.
        labels: the model's.
        grid: of the displayed image.

    Raises:
        BadPrompt: another shape, an unknown label, a voxel outside the image, a reach that cannot be.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise BadPrompt(f"scribbles is {str(value)[:80]!r}: a list of strokes is needed")
    return tuple(dict.fromkeys(_stroke(one, number, labels, grid) for number, one in enumerate(value, 1)))


def _stroke(value: object, number: int, labels: LabelSet, grid: Grid) -> Scribble:
    """One stroke of the list; `number` is its place there."""
    name, runs = (value.get("label"), value.get("runs")) if isinstance(value, Mapping) else (None, None)
    if not isinstance(name, str) or not isinstance(runs, list) or not runs:
        raise BadPrompt(
            f"stroke {number} is {str(value)[:80]!r}: a label and runs [[i, j, k, n], ...] are needed"
        )
    assert isinstance(value, Mapping)
    outline = value.get("outline")
    if outline is not None and not isinstance(outline, bool):
        raise BadPrompt(f"outline of stroke {number} is {str(outline)[:80]!r}: true or false is needed")
    if name != "background":
        check_label(name, labels, f"stroke {number}")
    painted = np.zeros(grid.shape, bool)
    for run in runs:
        i, j, k, count = _run(run, number, grid)
        painted[i : i + count, j, k] = True
    meant = BACKGROUND if name == "background" else name
    inside = enclosed(painted, grid) if outline is None else painted if outline else None
    drawn = Scribble.of(meant, painted if inside is None else inside, grid, inside)
    return replace(drawn, reach=check_reach(value.get("reach", 0), f"stroke {number}"))


def _run(value: object, number: int, grid: Grid) -> tuple[int, int, int, int]:
    """A run of voxels along I, inside the image: its first voxel and their number."""
    if isinstance(value, list) and len(value) == 4 and all(type(one) is int for one in value):
        i, j, k, count = value
        along = i >= 0 and 0 < count <= grid.shape[0] - i
        if along and 0 <= j < grid.shape[1] and 0 <= k < grid.shape[2]:
            return i, j, k, count
    raise BadPrompt(
        f"stroke {number} has the run {str(value)[:80]}: [i, j, k, n] is needed, n voxels along I from "
        f"(i, j, k) on, inside the image of {size_of(grid)} voxels"
    )


def _looks_like_points(value: Any) -> bool:
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(p, list | tuple) and len(p) == 3 for p in value)
    )


def _points(value: Any, label: str, labels: LabelSet, grid: Grid) -> list[Click]:
    if value is None:
        return []
    name = label or "background"
    if not isinstance(value, list | tuple):
        raise BadPrompt(f"the clicks of {name!r} are {value!r}: a list of [i, j, k] is needed")
    return [
        Click.on(grid, point, label, labels, f"click {n} of {name!r}") for n, point in enumerate(value, 1)
    ]
