"""What a reader asks of an interactive model: the fields of either client's request as one typed value.

Clients send all clicks with every request. 3D Slicer (SmartEdit) and OHIF (Point Prompts) list them by label
name, `background` among them; the older convention sends `foreground` and `background` of the one label named
in `label`, and leaves the other labels' clicks unsaid. Indices are voxels of the displayed image, the one
whose id is in the request.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slem_app.errors import BadGrid, BadPrompt, NotFound
from slem_app.formats import place, read_label_file
from slem_app.labels import LabelSet
from slem_app.prompts import Box, Click, Mask, Scribble, read_box, read_clicks, read_scribbles
from slem_app.serving.cases.label_names import value_names
from slem_app.types import Grid

__all__ = ["SENT_FILE", "PromptRequest", "parse_clicks", "parse_scribbles", "sent_file"]

# the names that tempfile gives; MONAI Label puts a file sent with a request there
SENT_FILE = re.compile(r"tmp[a-z0-9_]{8}(\.[^/]*)?")


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
    undo: bool = False
    """Take the last step back instead."""
    start_over: bool = False
    """Forget what was before."""


def parse_clicks(request: Mapping[str, Any], labels: LabelSet, image: Grid) -> PromptRequest:
    """The request of a client that clicks.

    Args:
        request: its fields; `label` is the name of the current label, or the path of a segmentation sent
            along.
        labels: the model's.
        image: grid of the displayed image.

    Raises:
        BadPrompt: points, a box or a flag that cannot be used.
        BadGrid, BadLabel, BadVolume, TooLarge: a segmentation that cannot be used.
    """
    clicks = tuple(dict.fromkeys(read_clicks(request, labels, image)))
    mask = None
    if (path := sent_file(request)) is not None:
        array, grid, names = read_label_file(path, image)
        mask = Mask(
            labels.remap(_placed(array, grid, image), value_names(request.get("label_info"), names, labels)),
            image,
        )
    return PromptRequest(
        clicks,
        str(request["label"])
        if request.get("foreground") is not None and request.get("label") in labels.names
        else None,
        None,
        read_box(request, image),
        mask,
        _flag(request, "undo"),
        _flag(request, "start_over"),
    )


def parse_scribbles(request: Mapping[str, Any], labels: LabelSet, image: Grid) -> tuple[PromptRequest, str]:
    """The request of 3D Slicer's Scribbles: a label map of all segments, two of them painted; and the label
    that is meant.

    Raises:
        BadPrompt: no label map, or one that does not belong to the image.
        BadGrid, BadLabel, BadVolume, TooLarge: a label map that cannot be used.
    """
    label = str(request.get("selected_label_name") or "")
    flags = {"undo": _flag(request, "undo"), "start_over": _flag(request, "start_over")}
    path = sent_file(request)
    if path is None:
        if not any(flags.values()):
            raise BadPrompt(
                "no scribbles came: paint foreground or background, then press the button for the update"
            )
        return PromptRequest(**flags), label if label in labels.names else ""
    array, grid, names = read_label_file(path, image)
    names = names or dict(enumerate((str(row.get("name")) for row in request.get("label_info") or []), 1))
    scribbles, mask = read_scribbles(_placed(array, grid, image), image, names, labels, label, image)
    return PromptRequest((), None, scribbles, read_box(request, image), mask, **flags), label


def sent_file(request: Mapping[str, Any]) -> Path | None:
    """The label file that came with the request, which MONAI Label has put among the temporary files; None
    where none came.

    Raises:
        NotFound: another path of this machine.
    """
    text = str(request.get("label") or "")
    if not Path(text).is_absolute():
        return None
    path = Path(text)
    if path.parent != Path(tempfile.gettempdir()) or not SENT_FILE.fullmatch(path.name) or not path.is_file():
        raise NotFound(f"no label file {text!r}: send it with the request, paths of the server are none")
    return path


def _placed(array: Any, grid: Grid, image: Grid) -> Any:
    try:
        return place(array, grid, image, "the segmentation that was sent")
    except BadGrid as error:
        raise BadPrompt(f"{error}; send it on the image that is displayed") from error


def _flag(request: Mapping[str, Any], name: str) -> bool:
    value = request.get(name, False)
    if isinstance(value, bool):
        return value
    if str(value).lower() in ("true", "1"):
        return True
    if str(value).lower() in ("false", "0", "none", ""):
        return False
    raise BadPrompt(f"{name} is {value!r}: true or false is needed")
