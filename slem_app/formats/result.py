"""The description that goes with a label map: names, what was read, how long it took, volumes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from slem_app.files import atomic_file
from slem_app.labels import LabelSet

__all__ = ["result_json", "write_result_json"]


def result_json(
    labels: LabelSet,
    used: Sequence[str] = (),
    missing: Sequence[str] = (),
    timings: Mapping[str, float] | None = None,
    volumes_ml: Mapping[str, float] | None = None,
    notes: Sequence[str] = (),
) -> dict[str, object]:
    """The result's description, of plain JSON types.

    Args:
        labels: the model's labels.
        used: sequences that were read.
        missing: sequences of the model that the case lacks.
        timings: step -> seconds; 'total' is added if missing.
        volumes_ml: label or region -> millilitres.
        notes: what a reader should know, in sentences.

    Returns:
        `label_names` (name -> value, in order of value: 3D Slicer gives value k to the k-th name),
        `sequences_used`, `sequences_missing`, `latencies` (s), `volumes_ml`, `notes`.

    Example:
        >>> from slem_app.labels import Code, Label, LabelSet, Region
        >>> liver = LabelSet((Label("liver", 1, Code("10200004", "Liver")),), (Region("liver", ("liver",)),))
        >>> result_json(liver, used=["t1_in"], timings={"network": 0.5})["latencies"]
        {'network': 0.5, 'total': 0.5}
    """
    latencies = {step: round(float(seconds), 4) for step, seconds in (timings or {}).items()}
    if latencies and "total" not in latencies:
        latencies["total"] = round(sum(latencies.values()), 4)
    return {
        "label_names": {label.name: label.value for label in labels.labels},
        "sequences_used": list(used),
        "sequences_missing": list(missing),
        "latencies": latencies,
        "volumes_ml": {name: round(float(ml), 3) for name, ml in (volumes_ml or {}).items()},
        "notes": list(notes),
    }


def write_result_json(result: Mapping[str, object], path: Path) -> Path:
    """Write a description as UTF-8 JSON, whole or not at all.

    Raises:
        StorageFailed: the disk refused.
    """
    with atomic_file(path) as file:
        file.write((json.dumps(result, indent=2, ensure_ascii=False) + "\n").encode())
    return Path(path)
