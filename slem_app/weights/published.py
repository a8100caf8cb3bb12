"""Versions of a model that learns: each in a folder that is never changed, and a small file that names the one that is served.

    <root>/<name>/000001/    card, weights and record.json of version 1; version 0 is the bundled model
    <root>/<name>/refused/   candidates that were not good enough, with their figures and the reason; the last ten
    <root>/<name>/served.json

Invariant: at every moment, kill -9, power failure and a full disk included, `served.json` names a complete version or is not there, which means
version 0. A version is made in a hidden folder, brought to the disk, read back and renamed; only then is `served.json` replaced.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from slem_app.errors import BadCard, BadWeights, NotFound, SlemError, StorageFailed
from slem_app.weights.card import CARD_FILE, Card, load_card
from slem_app.weights.store import Model, load_model, read_weights, save_model, write_file

__all__ = ["Decision", "Loaded", "Published", "Record", "Version"]

RECORD_FILE, POINTER, REFUSED = "record.json", "served.json", "refused"
KEPT = 10  # refused candidates
MAKING = ".new-"  # how folders begin that are not complete yet


@dataclass(frozen=True)
class Record:
    """How a version came to be: what its card does not say."""

    created: str
    """Date and time, UTC, ISO 8601."""
    parent: int
    """Version that its training started from, and that it was compared with."""
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
class Version:
    """One version, or one refused candidate, as it lies on the disk."""

    number: int
    """Version; 0: the bundled model. A refused candidate has none: -1."""
    folder: Path
    """Where it lies."""
    served: bool
    """Whether requests are to be answered by it."""
    card: Card | None
    """None where it cannot be read."""
    record: Record | None
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


class Published:
    """All versions of one model.

    Args:
        root: folder of all models that learn, `<store>/models`.
        name: of the model.
        bundled: folder of the model that is version 0.
    """

    def __init__(self, root: Path, name: str, bundled: Path) -> None:
        self.name, self.bundled = name, Path(bundled)
        self.path = Path(root) / name

    def served_number(self) -> int:
        """The version that is to be served.

        Raises:
            BadWeights: `served.json` was damaged, which no crash of this program does.
        """
        return self._pointer()[0]

    def served(self) -> Path:
        """Its folder; errors as those of `served_number`."""
        return self.folder(self.served_number())

    def stamp(self) -> tuple[int, int] | None:
        """Changes whenever another version is to be served; None while `served.json` is not there. Costs one look at the folder."""
        try:
            found = (self.path / POINTER).stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns

    def folder(self, number: int) -> Path:
        """Where a version lies."""
        return self.path / f"{number:06d}" if number else self.bundled

    def number_of(self, folder: Path | str) -> int:
        """The version that lies in a folder of `folder`; 0 for any other place."""
        folder = Path(folder)
        ours = folder.name.isdigit() and folder.resolve().parent == self.path.resolve()
        return int(folder.name) if ours else 0

    def load(self, device: str | torch.device = "cpu") -> Loaded:
        """The served version; where that cannot be read the one before it, else the bundled one, with the reason.

        Raises:
            NotFound, BadCard, BadWeights: not even the bundled model can be used.
        """
        notes = []
        try:
            wanted = self._pointer()
        except BadWeights as error:
            notes, wanted = [str(error)], (0, 0)
        for number in dict.fromkeys((*wanted, 0)):
            try:
                model = self.load_version(number, device)
            except SlemError as error:
                if not number:
                    raise
                notes.append(f"version {number} of {self.name} cannot be used ({error})")
                continue
            return Loaded(model, number, f"{'; '.join(notes)}: version {number} is served" if notes else "")
        raise NotFound(f"no version of {self.name} in {self.path}")  # never reached: 0 is always among them

    def load_version(self, number: int, device: str | torch.device = "cpu") -> Model:
        """One version.

        Raises:
            NotFound: there is none of that number.
            BadCard, BadWeights: it is damaged.
        """
        folder = self.folder(number)
        if number < 0 or not (folder / CARD_FILE).is_file():  # else the name might be looked up among the bundled ones
            raise NotFound(f"{self.name} has no version {number}; there are {', '.join(map(str, self.numbers()))}")
        model = load_model(folder, device)
        if model.card.name != self.name:
            raise BadCard(f"{folder} holds {model.card.name}, not {self.name}")
        return model

    def numbers(self) -> tuple[int, ...]:
        """All versions, 0 first."""
        found = (int(path.name) for path in self.path.glob("[0-9]*") if path.name.isdigit() and path.is_dir())
        return (0, *sorted(number for number in found if number))

    def versions(self, check: bool = False) -> tuple[Version, ...]:
        """All versions, 0 first.

        Args:
            check: read the weights too, to see whether they are whole.
        """
        try:
            served = self.served_number()
        except BadWeights:
            served = 0
        return tuple(_version(self.folder(number), number, number == served, check) for number in self.numbers())

    def refused(self) -> tuple[Version, ...]:
        """Candidates that were refused and are still kept, oldest first."""
        return tuple(_version(path, -1, False, False) for path in self._refused())

    def serve(self, number: int) -> None:
        """Have another version served from the next request on; with a number that was served before: roll back.

        Raises:
            NotFound: there is none of that number.
            BadCard, BadWeights: it is damaged, or its labels or sequences are not those that clients know.
            StorageFailed: the disk refused; the version that was served still is.
        """
        with self._alone():
            self._check_fit(self.load_version(number).card)
            self._point(number)

    def publish(
        self,
        card: Card,
        network: torch.nn.Module,
        figures: Mapping[str, float],
        before: Mapping[str, float],
        *,
        parent: int | None = None,
        labels: Mapping[str, str] | None = None,
        held_out: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        trusted: bool = False,
        tolerance: float = 0.0,
        metric: str = "mean",
    ) -> Decision:
        """Serve a candidate if it is not worse than the served model; else keep it apart with the reason.

        Args:
            card: of the candidate; its version and parent are filled in.
            network: its weights.
            figures: of the candidate on the hold-out, higher is better.
            before: of the model it is compared with, on the same cases.
            parent: number of that model, in which the training started; None: the one that is served.
            labels: case -> version of the label, for all that were trained on.
            held_out: the same for those it was measured on.
            settings: of the training.
            trusted: whether the hold-out is large enough.
            tolerance: how much worse it may be in `metric`.
            metric: name of the deciding figure.

        Raises:
            BadCard: a candidate of another name, or with other labels or sequences than clients know.
            BadWeights: weights that cannot be stored, such as NaN.
            StorageFailed: the disk refused; everything is as it was.
        """
        with self._alone():
            standing = self.load()
            self._check_fit(card)
            parent = standing.number if parent is None else parent
            good, reason = _verdict(figures, before, metric, tolerance, parent, standing.number)
            number = max(self.numbers()) + 1
            base = standing.model.card
            version = f"{base.version.partition('+')[0]}+{number}" if good else f"{card.version.partition('+')[0]}+refused"
            source = base.version if parent == standing.number else f"version {parent}"
            card = replace(card, version=version, parent=f"{self.name} {source}", file="", sha256="")
            created = datetime.now(timezone.utc)
            told = ({name: float(value) for name, value in each.items()} for each in (figures, before))
            record = Record(
                created.isoformat(timespec="seconds"), parent, dict(labels or {}), dict(held_out or {}), *told, tolerance, trusted, dict(settings or {}), reason
            )
            place = self.folder(number) if good else self.path / REFUSED / f"{created:%Y%m%d-%H%M%S-%f}"
            self._add(place, card, network, record)
            if not good:
                for old in self._refused()[:-KEPT]:
                    shutil.rmtree(old, ignore_errors=True)
                return Decision(False, 0, place, reason)
            try:
                self._point(number)
            except StorageFailed:
                shutil.rmtree(place, ignore_errors=True)  # nobody has been told of it
                raise
            return Decision(True, number, place, reason)

    def _pointer(self) -> tuple[int, int]:
        """The version to serve, and the one that was served before it."""
        path = self.path / POINTER
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            return int(table["number"]), int(table["before"])
        except FileNotFoundError:
            return 0, 0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadWeights(f"{path} cannot be read ({error}): choose the version to serve with `slem models --serve NUMBER`") from error

    def _point(self, number: int) -> None:
        try:
            before = self.served_number()
            if before == number:
                return
        except BadWeights:
            before = 0
        try:
            write_file(self.path / POINTER, json.dumps({"number": number, "before": before}).encode())
        except OSError as error:
            if self.served_number() != number:  # else only the last step failed, which makes it outlast a power cut
                raise StorageFailed(f"{self.path / POINTER} could not be written: {error.strerror or error}; version {before} is still served") from error

    def _add(self, place: Path, card: Card, network: torch.nn.Module, record: Record) -> None:
        """Make a version's folder: all of it or nothing."""
        making = self.path / f"{MAKING}{uuid.uuid4().hex}"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            making.mkdir()
            save_model(making, card, network)
            write_file(making / RECORD_FILE, json.dumps(asdict(record), indent=1, allow_nan=True).encode())
            load_model(making)
            making.rename(place)
            for folder in {place.parent, self.path}:
                _sync(folder)
        except OSError as error:
            shutil.rmtree(place, ignore_errors=True)
            raise StorageFailed(f"cannot keep {card.name} in {self.path}: {error.strerror or error}; what was served still is: free space") from error
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _refused(self) -> list[Path]:
        there = self.path / REFUSED
        return sorted(path for path in there.iterdir() if path.is_dir()) if there.is_dir() else []

    def _check_fit(self, card: Card) -> None:
        """What clients were told when they connected must hold for every version."""
        first = load_card(self.bundled)
        unlike = [name for name in ("name", "labels", "sequences") if getattr(card, name) != getattr(first, name)]
        if unlike:
            raise BadCard(f"this model cannot take the place of {first.name} {first.version}: it differs in {', '.join(unlike)}; serve it under another name")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time, over all processes; what a killed one has left is taken away. The lock is the kernel's, so none is ever stale."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageFailed(f"{self.path} cannot be written: {error.strerror or error}: give a store that may be written to") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            for left in self.path.glob(f"{MAKING}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
        finally:
            os.close(handle)


def _verdict(figures: Mapping[str, float], before: Mapping[str, float], metric: str, tolerance: float, parent: int, served: int) -> tuple[bool, str]:
    """Whether a candidate may be served, and why."""
    if parent != served:
        return False, f"refused: it was trained from version {parent} and compared with it, but meanwhile version {served} is served: train again"
    if metric not in figures or metric not in before:
        return False, f"refused: it was not measured against version {served} ({metric} is missing)"
    new, old = figures[metric], before[metric]
    if not (math.isfinite(new) and math.isfinite(old)):
        return False, f"refused: {metric} is not a number ({new} now, {old} before)"
    told = f"{metric} {new:.4f} on the hold-out, version {served} has {old:.4f}"
    if new < old - tolerance:
        return False, f"refused: {told}" + (f", and only {tolerance:g} less is allowed" if tolerance else "")
    return True, told


def _version(folder: Path, number: int, served: bool, check: bool) -> Version:
    card = record = None
    try:
        card = load_card(folder)
        if number:
            record = _record(folder / RECORD_FILE)
        if check:
            read_weights(folder, card)
    except SlemError as error:
        return Version(number, folder, served, card, record, str(error))
    return Version(number, folder, served, card, record)


def _record(path: Path) -> Record:
    try:
        return Record(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadCard(f"{path} cannot be read: {error}") from error


def _sync(folder: Path) -> None:
    """Make a rename last through a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
