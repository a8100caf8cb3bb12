"""What the values of a label file mean that a client sends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from slem_app.errors import BadLabel
from slem_app.labels import CHECK_HERE, LabelSet

__all__ = ["segment_names", "value_names"]


def segment_names(label_info: object) -> tuple[str, ...] | None:
    """The names of a client's segments, value 1 first; None where it names none.

    Args:
        label_info: the client's list. Clients number segments by their position in it; `idx` may count others
            too.

    Raises:
        BadLabel: a list of another shape.
    """
    if label_info is None:
        return None
    if not isinstance(label_info, list) or not all(
        isinstance(row, dict) and isinstance(row.get("name"), str) for row in label_info
    ):
        raise BadLabel(
            f"label_info must be a list of objects with a name, in the order of the file's values, got "
            f"{label_info!r}"
        )
    return tuple(row["name"] for row in label_info)


def value_names(
    segments: Sequence[str] | None, names: Mapping[int, str] | None, labels: LabelSet
) -> dict[int, str]:
    """Name by value; empty: background.

    Args:
        segments: the names of the client's segments, value 1 first, or None.
        names: what the file itself says (.seg.nrrd), or None.
        labels: the model's, which hold where neither says anything.

    Raises:
        BadLabel: a segment that is no finding.
    """
    known = names or dict(enumerate(labels.names if segments is None else segments, 1))
    if CHECK_HERE.name in known.values() and CHECK_HERE.name not in labels.names:
        raise BadLabel(
            f"the segment {CHECK_HERE.name!r} hides the labels beneath it: ask for the result again without "
            "check_here, or give these voxels their labels, delete that segment, and save again"
        )
    return {value: "" if name == "background" else name for value, name in known.items()}
