"""What a result was made from, so that it can be made again and told from another: kept with every draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any

import slem_app
from slem_app.grouping import Grouping

__all__ = ["PROVENANCE", "provenance"]

PROVENANCE = "provenance"
"""Its key in a version's meta.json."""
CHUNK = 2**20  # bytes
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")


def provenance(
    grouping: Grouping, used: Sequence[str], settings: Mapping[str, Any], volumes_ml: Mapping[str, float]
) -> dict[str, Any]:
    """The facts, as JSON can hold them.

    Args:
        grouping: the case.
        used: names of the sequences that the model saw.
        settings: what else decides the result.
        volumes_ml: millilitres of each label and region, so that a table of an archive reads no label.

    Raises:
        NotFound: a file is gone.
    """
    inputs = {name: _input(grouping, name) for name in used}
    return {
        "code": slem_app.__version__,
        "inputs": inputs,
        "settings": dict(settings),
        "volumes_ml": {name: round(float(ml), 4) for name, ml in volumes_ml.items()},
    }


def _input(grouping: Grouping, name: str) -> dict[str, str]:
    """A sequence's series: its id, its UIDs where it is DICOM, and one hash over its files in their order."""
    series = grouping.sequences[name]
    digest = sha256()
    with series.files() as paths:
        for path in paths:
            with path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    digest.update(chunk)
    uids = {
        key: str(series.header[key]) for key in UIDS if series.format == "dicom" and series.header.get(key)
    }
    return {"series": series.id, "sha256": digest.hexdigest(), **uids}
