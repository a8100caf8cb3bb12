"""What the values of a label file mean that a client sends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slem_app.errors import BadLabel
from slem_app.labels import LabelSet

__all__ = ["value_names"]


def value_names(label_info: Any, names: Mapping[int, str] | None, labels: LabelSet) -> dict[int, str]:
    """Name by value; empty: background. Clients number segments by their position in `label_info`; `idx` may
    count others too.

    Args:
        label_info: the client's list of segments, or None.
        names: what the file itself says (.seg.nrrd), or None.
        labels: the model's, which hold where neither says anything.

    Raises:
        BadLabel: a list of another shape.
    """
    if names:
        return {value: "" if name == "background" else name for value, name in names.items()}
    if label_info is None:
        return dict(enumerate(labels.names, 1))
    if not isinstance(label_info, list) or not all(
        isinstance(row, dict) and isinstance(row.get("name"), str) for row in label_info
    ):
        raise BadLabel(
            f"label_info must be a list of objects with a name, in the order of the file's values, got "
            f"{label_info!r}"
        )
    return {
        value: "" if row["name"] == "background" else row["name"] for value, row in enumerate(label_info, 1)
    }
