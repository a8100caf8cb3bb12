"""What a version of a model is, how it came to be, and what became of a candidate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from slem_app.errors import BadCard, SlemError
from slem_app.weights.card import Card, load_card
from slem_app.weights.store import Model, read_weights, write_file

__all__ = [
    "RECORD_FILE",
    "Decision",
    "Loaded",
    "ModelRecord",
    "ModelVersion",
    "read_record",
    "read_version",
    "write_record",
]

RECORD_FILE = "record.json"


@dataclass(frozen=True)
class ModelRecord:
    """How a version came to be: what its card does not say."""

    created: str
    """Date and time, UTC, ISO 8601."""
    parent: int
    """Version that its training started from, and that it was compared with."""
    round: str = ""
    """Round of learning that it comes from; empty: a person published it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    """Case -> version of its label, for all that were trained on."""
    held_out: Mapping[str, str] = field(default_factory=dict)
    """Case -> version of its label, for all that it was measured on."""
    figures: Mapping[str, float] = field(default_factory=dict)
    """Measured on the hold-out, e.g. {'mean': 0.8, 'WT': 0.9}."""
    before: Mapping[str, float] = field(default_factory=dict)
    """The same of the parent, on the same cases."""
    tolerance: float = 0.0
    """How much worse than its parent it was allowed to be."""
    trusted: bool = False
    """Whether the hold-out was large enough for its figures to mean something."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the training."""
    reason: str = ""
    """Why it was published or refused."""


@dataclass(frozen=True)
class Decision:
    """What became of a candidate."""

    published: bool
    """Whether it is served now."""
    number: int
    """Its version; 0 where it was refused."""
    folder: Path
    """Where it lies."""
    reason: str
    """Why, for people."""


@dataclass(frozen=True)
class ModelVersion:
    """One version, or one refused candidate, as it lies on the disk."""

    number: int
    """Version; 0: the bundled model. A refused candidate has none: -1."""
    folder: Path
    """Where it lies."""
    served: bool
    """Whether requests are to be answered by it."""
    card: Card | None
    """None where it cannot be read."""
    record: ModelRecord | None
    """None for the bundled model, and where it cannot be read."""
    problem: str = ""
    """Why it cannot be served; empty: nothing known."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model that can be served."""

    model: Model
    """Weights checked."""
    number: int
    """Its version."""
    note: str
    """Why it is not the version that was asked for; empty: it is."""


def read_version(folder: Path, number: int, served: bool = False, check: bool = False) -> ModelVersion:
    """A version as it lies on the disk, with what is wrong with it.

    Args:
        folder: where it lies.
        number: of the version; -1: a refused candidate.
        served: whether it is the one that is served.
        check: read the weights too, to see whether they are whole.
    """
    card = record = None
    try:
        card = load_card(folder)
        if number:
            record = read_record(folder)
        if check:
            read_weights(folder, card)
    except SlemError as error:
        return ModelVersion(number, folder, served, card, record, str(error))
    return ModelVersion(number, folder, served, card, record)


def read_record(folder: Path) -> ModelRecord:
    """How the version in a folder came to be.

    Raises:
        BadCard: its record is not there or damaged.
    """
    path = folder / RECORD_FILE
    try:
        return ModelRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadCard(f"{path} cannot be read: {error}") from error


def write_record(folder: Path, record: ModelRecord) -> None:
    """Keep with a version how it came to be; raises what the disk raises."""
    write_file(folder / RECORD_FILE, json.dumps(asdict(record), indent=1, allow_nan=True).encode())
