"""What models say of cases, on disk:

    <store>/scores/<case>/<sha256>.json + .npz  (the segmentation, to compare the next model's with)
    <store>/scores/<case>/label.json            (volumes of the final label)

All of it can be measured anew: a file that is damaged or of another format counts as one that is not there.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from slem_app.files import atomic_file
from slem_app.selection import LabelMap, Measures
from slem_app.store.labels import file_name
from slem_app.types import Grid
from slem_app.weights import Card

__all__ = ["FORMAT", "Entry", "ScoreFiles"]

logger = logging.getLogger(__name__)

FORMAT = 1  # of the files; others are measured anew
LABEL = "label.json"


@dataclass(frozen=True, eq=False)
class Entry:
    """The measures of one case by one model."""

    sha256: str
    """Of the model's weights."""
    state: str
    """Of the case's files when they were read."""
    ts: float
    """When, seconds since 1970."""
    measures: Measures
    """What was measured."""
    model: str = ""
    """The model's name."""


class ScoreFiles:
    """The files of all cases.

    Args:
        folder: where they are; made with the first one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, case: str, card: Card, entry: Entry, segmentation: LabelMap) -> None:
        """Keep what a model says of a case, and its segmentation."""
        path = self._place(case, entry.sha256)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path.with_suffix(".npz"), durable=False) as file:
            np.savez_compressed(file, array=segmentation.array, affine=segmentation.grid.affine)
        said = {"case": case, "model": card.name, "version": card.version, "sha256": entry.sha256}
        measured = {"state": entry.state, "ts": entry.ts, "measures": entry.measures.to_table()}
        self._write(path, said | measured)

    def save_label(self, case: str, version: int, volumes_ml: Mapping[str, float]) -> None:
        """Keep the volumes of a version of a case's final label."""
        table = {"case": case, "version": version, "volumes_ml": dict(volumes_ml)}
        self._write(self.folder / file_name(case) / LABEL, table)

    def segmentation(self, case: str, sha256: str) -> LabelMap | None:
        """What a model made of a case; None where that is gone or damaged."""
        try:
            with np.load(self._place(case, sha256).with_suffix(".npz")) as file:
                return LabelMap(file["array"], Grid(file["array"].shape, file["affine"]))
        except (OSError, ValueError, KeyError, BadZipFile):
            return None

    def remove(self, case: str, sha256: str) -> None:
        """Take away what a model said of a case."""
        for suffix in (".json", ".npz"):
            self._place(case, sha256).with_suffix(suffix).unlink(missing_ok=True)

    def load(self) -> tuple[dict[str, dict[str, Entry]], dict[str, tuple[int, dict[str, float]]]]:
        """What earlier runs have measured: of each case the entries by weights, the latest last; and the
        version of its final label with its volumes in ml.
        """
        found: list[tuple[str, Entry]] = []
        labels: dict[str, tuple[int, dict[str, float]]] = {}
        for path in sorted(self.folder.glob("*/*.json")):
            try:
                table = json.loads(path.read_text(encoding="utf-8"))
                if table["format"] != FORMAT:
                    continue
                if path.name == LABEL:
                    labels[table["case"]] = (int(table["version"]), dict(table["volumes_ml"]))
                else:
                    found.append((table["case"], _entry(table)))
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s cannot be read (%s): measured anew", path, error)
        entries: dict[str, dict[str, Entry]] = {}
        for case, entry in sorted(found, key=lambda one: one[1].ts):
            entries.setdefault(case, {})[entry.sha256] = entry
        return entries, labels

    def _place(self, case: str, sha256: str) -> Path:
        return self.folder / file_name(case) / f"{sha256}.json"

    def _write(self, path: Path, table: Mapping[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path, durable=False) as file:
            file.write(json.dumps({"format": FORMAT, **table}).encode())


def _entry(table: Mapping[str, Any]) -> Entry:
    measures = Measures.from_table(table["measures"])
    return Entry(table["sha256"], table["state"], table["ts"], measures, table["model"])
