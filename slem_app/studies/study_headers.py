"""The headers of a DICOM study as a table that JSON can hold, and back: what `Series.described` keeps."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slem_app.studies.series import Origin, Series, Study
from slem_app.types import Grid

__all__ = ["study_from_table", "to_table"]

PATIENT = "PatientID"


def to_table(study: Study) -> dict[str, Any]:
    """The study's series with their headers, paths relative to its root, which may lie elsewhere later.

    What names the patient is left out: it stays in the files.

    Args:
        study: its series are DICOM and were made by `Series.described`.
    """
    return {"series": [_series(one, study.root) for one in study.series]}


def _series(series: Series, root: Path) -> dict[str, Any]:
    known = vars(series)
    places: dict[str, list[str]] = {}
    for path in series.paths:
        places.setdefault(os.path.relpath(path.parent, root), []).append(path.name)
    number = {path: n for n, path in enumerate(series.paths)}
    table = {
        "id": series.id,
        "name": series.name,
        "header": {key: value for key, value in known["header"].items() if key != PATIENT},
        "paths": [[os.path.relpath(path.parent, root), path.name] for path in series.paths]
        if len(places) > 1
        else list(places.items())[:1],
        "frames": [[number[path], frame] for path, frame in known["frames"]]
        if any(frame for _, frame in known["frames"])
        else None,
    }
    if "grid" in known:
        return {**table, "shape": known["grid"].shape, "affine": known["grid"].affine.tolist()}
    return {**table, "trouble": known["trouble"]}


def study_from_table(
    table: Mapping[str, Any],
    study: Study,
    patient: Callable[[Path], str],
    origins: Mapping[str, Origin] | None = None,
) -> Study:
    """The study again.

    Args:
        table: as `to_table` made it.
        study: the same without series: id, layout, root and coding.
        patient: PatientID, given the study's first file; asked once.
        origins: by SeriesInstanceUID, where the files are fetched from; none where they lie here.

    Raises:
        LookupError, TypeError, ValueError: not such a table.
    """
    places = [_paths(row, study.root) for row in table["series"]]
    named = patient(places[0][0])
    series = tuple(
        _from(row, paths, named, origins or {}) for row, paths in zip(table["series"], places, strict=True)
    )
    return Study(study.id, study.layout, study.root, series, None, study.coding)


def _paths(row: Mapping[str, Any], root: Path) -> tuple[Path, ...]:
    return tuple(
        Path(os.path.normpath(root / folder), name)
        for folder, names in row["paths"]
        for name in ([names] if isinstance(names, str) else names)
    )


def _from(
    row: Mapping[str, Any], paths: tuple[Path, ...], patient: str, origins: Mapping[str, Origin]
) -> Series:
    header = {**_tuples(row["header"]), PATIENT: patient}
    origin = origins.get(str(header.get("SeriesInstanceUID", "")))
    series = Series.described(str(row["id"]), str(row["name"]), header, paths, origin=origin)
    known: dict[str, Any] = {
        "frames": tuple((path, 0) for path in paths)
        if row["frames"] is None
        else tuple((paths[n], int(frame)) for n, frame in row["frames"])
    }
    if "trouble" in row:
        known["trouble"] = str(row["trouble"])
    else:
        known["grid"] = Grid(tuple(row["shape"]), np.array(row["affine"]))
    vars(series).update(known)
    return series


def _tuples(header: Mapping[str, Any]) -> dict[str, Any]:
    """Several values of one field are a tuple, which JSON has not."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in header.items()}
