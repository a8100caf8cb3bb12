"""Versions of a model that learns: each in a folder that is never changed, and a small file that names the
one that is served.

    <root>/<name>/000001/    card, weights and record.json of version 1; version 0 is the bundled model
    <root>/<name>/refused/   the last ten candidates that were not good enough, with figures and reason
    <root>/<name>/served.json

Invariant: at every moment, kill -9, power failure and a full disk included, `served.json` names a complete
version or is not there, which means version 0. A version is made in a hidden folder, brought to the disk,
read back and renamed; only then is `served.json` replaced.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from slem_app.errors import BadCard, BadWeights, NotFound, SlemError, StorageFailed
from slem_app.files import exclusive, sync
from slem_app.weights.card import CARD_FILE, Card, load_card
from slem_app.weights.editor import EditorModel
from slem_app.weights.store import Model, load_model, save_model, write_file
from slem_app.weights.verdict import POLICIES, verdict
from slem_app.weights.version import Decision, Loaded, ModelRecord, ModelVersion, read_version, write_record

__all__ = ["POLICIES", "Decision", "Loaded", "ModelRecord", "ModelVersion", "Published"]

POINTER, REFUSED = "served.json", "refused"
KEPT = 10  # refused candidates
MAKING = ".new-"  # how folders begin that are not complete yet


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

    def served_before(self) -> int:
        """The version that was served before it; errors as those of `served_number`."""
        return self._pointer()[1]

    def served(self) -> Path:
        """Its folder; errors as those of `served_number`."""
        return self.folder(self.served_number())

    def stamp(self) -> tuple[int, int] | None:
        """Changes whenever another version is to be served; None while `served.json` is not there. Costs one
        look at the folder.
        """
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
        """The served version; where that cannot be read the one before it, else the bundled one, with the
        reason.

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
            BadCard, BadWeights: it is damaged, or clients would not know its labels.
        """
        folder = self.folder(number)
        if (
            number < 0 or not (folder / CARD_FILE).is_file()
        ):  # else the name might be looked up among the bundled ones
            raise NotFound(
                f"{self.name} has no version {number}; there are {', '.join(map(str, self.numbers()))}"
            )
        model = load_model(folder, device)
        self._check_fit(model.card)
        return model

    def numbers(self) -> tuple[int, ...]:
        """All versions, 0 first."""
        found = (int(path.name) for path in self.path.glob("[0-9]*") if path.name.isdigit() and path.is_dir())
        return (0, *sorted(number for number in found if number))

    def versions(self, check: bool = False) -> tuple[ModelVersion, ...]:
        """All versions, 0 first.

        Args:
            check: read the weights too, to see whether they are whole.
        """
        try:
            served = self.served_number()
        except BadWeights:
            served = 0
        return tuple(
            read_version(self.folder(number), number, number == served, check) for number in self.numbers()
        )

    def learnt(self, number: int) -> dict[str, str]:
        """Case -> version of its label, for all labels that a version and those it comes from were trained
        on.
        """
        found: dict[str, str] = {}
        seen: set[int] = set()
        while number and number not in seen:
            seen.add(number)
            record = read_version(self.folder(number), number).record
            if record is None:
                break
            found, number = {**record.labels, **found}, record.parent
        return found

    def of_round(self, round: str) -> ModelVersion | None:
        """What came of a round of learning, published or refused; None: it got no such far."""
        every = (*self.refused(), *self.versions())
        return next(
            (one for one in reversed(every) if one.record is not None and one.record.round == round), None
        )

    def refused(self) -> tuple[ModelVersion, ...]:
        """Candidates that were refused and are still kept, oldest first."""
        return tuple(read_version(path, -1) for path in self._refused())

    def serve(self, number: int) -> None:
        """Have another version served from the next request on; with a number that was served before: roll
        back.

        Raises:
            NotFound: there is none of that number.
            BadCard, BadWeights: it is damaged, or its labels or sequences are not those that clients know.
            StorageFailed: the disk refused; the version that was served still is.
        """
        with self._alone():
            self.load_version(number)
            self._point(number)

    def publish(
        self,
        card: Card,
        network: torch.nn.Module,
        figures: Mapping[str, float],
        before: Mapping[str, float],
        *,
        detail: Model | None = None,
        editor: EditorModel | None = None,
        parent: int | None = None,
        labels: Mapping[str, str] | None = None,
        held_out: Mapping[str, str] | None = None,
        settings: Mapping[str, Any] | None = None,
        round: str = "",
        trusted: bool = False,
        tolerance: float = 0.0,
        metric: str = "mean",
        policy: str = "better",
        chosen: str = "",
    ) -> Decision:
        """Serve a candidate if it is not worse than the served model; else keep it apart with the reason.

        Args:
            card: of the candidate; its version and parent are filled in.
            network: its weights.
            figures: of the candidate on the hold-out, higher is better.
            before: of the model it is compared with, on the same cases.
            detail: what looks again, where the candidate has one of its own.
            editor: what answers prompts, likewise.
            parent: number of that model, in which the training started; None: the one that is served.
            labels: case -> version of the label, for all that were trained on.
            held_out: the same for those it was measured on.
            settings: of the training.
            round: of learning that it comes from.
            trusted: whether the hold-out is large enough.
            tolerance: how much worse it may be in `metric`.
            metric: name of the deciding figure.
            policy: one of `POLICIES`.
            chosen: why a person wants it to be served, without comparison.

        Raises:
            BadCard: a candidate of another name, or with other labels or sequences than clients know.
            BadWeights: weights that cannot be stored, such as NaN.
            StorageFailed: the disk refused; everything is as it was.
        """
        with self._alone():
            standing = self.load()
            self._check_fit(card)
            parent = standing.number if parent is None else parent
            good, reason = (
                (True, chosen)
                if chosen
                else verdict(figures, before, metric, tolerance, policy, parent, standing.number)
            )
            number = max(self.numbers()) + 1
            base = standing.model.card
            version = (
                f"{base.version.partition('+')[0]}+{number}"
                if good
                else f"{card.version.partition('+')[0]}+refused"
            )
            source = base.version if parent == standing.number else f"version {parent}"
            card = replace(card, version=version, parent=f"{self.name} {source}", file="", sha256="")
            created = datetime.now(timezone.utc)
            record = ModelRecord(
                created=created.isoformat(timespec="seconds"),
                parent=parent,
                round=round,
                labels=dict(labels or {}),
                held_out=dict(held_out or {}),
                figures={name: float(value) for name, value in figures.items()},
                before={name: float(value) for name, value in before.items()},
                tolerance=tolerance,
                trusted=trusted,
                settings=dict(settings or {}),
                reason=reason,
            )
            place = self.folder(number) if good else self.path / REFUSED / f"{created:%Y%m%d-%H%M%S-%f}"
            self._add(place, card, network, record, detail, editor)
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
            raise BadWeights(
                f"{path} cannot be read ({error}): choose the version to serve with `slem models --serve "
                f"NUMBER`"
            ) from error

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
            if (
                self.served_number() != number
            ):  # else only the last step failed, which makes it outlast a power cut
                raise StorageFailed(
                    f"{self.path / POINTER} could not be written: {error.strerror or error}; version "
                    f"{before} is still served"
                ) from error

    def _add(
        self,
        place: Path,
        card: Card,
        network: torch.nn.Module,
        record: ModelRecord,
        detail: Model | None = None,
        editor: EditorModel | None = None,
    ) -> None:
        """Make a version's folder: all of it or nothing."""
        making = self.path / f"{MAKING}{uuid.uuid4().hex}"
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            making.mkdir()
            save_model(making, card, network, detail, editor)
            write_record(making, record)
            load_model(making)
            making.rename(place)
            for folder in {place.parent, self.path}:
                sync(folder)
        except OSError as error:
            shutil.rmtree(place, ignore_errors=True)
            raise StorageFailed(
                f"cannot keep {card.name} in {self.path}: {error.strerror or error}; what was served still "
                "is: free space"
            ) from error
        finally:
            shutil.rmtree(making, ignore_errors=True)

    def _refused(self) -> list[Path]:
        there = self.path / REFUSED
        return sorted(path for path in there.iterdir() if path.is_dir()) if there.is_dir() else []

    def _check_fit(self, card: Card) -> None:
        """What clients were told when they connected must hold for every version."""
        first = load_card(self.bundled)
        unlike = [
            name for name in ("name", "labels", "sequences") if getattr(card, name) != getattr(first, name)
        ]
        unlike += ["prompts"] if bool(card.network.prompts) != bool(first.network.prompts) else []
        if unlike:
            raise BadCard(
                f"this model cannot take the place of {first.name} {first.version}: it differs in "
                f"{', '.join(unlike)}; serve it under another name"
            )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One writer at a time, over all processes; what a killed one has left is taken away. The lock is the
        kernel's, so none is ever stale.
        """
        with ExitStack() as lock:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                lock.enter_context(exclusive(self.path / ".lock"))
            except OSError as error:
                raise StorageFailed(
                    f"{self.path} cannot be written: {error.strerror or error}: give a store that may be "
                    f"written to"
                ) from error
            for left in self.path.glob(f"{MAKING}*"):
                shutil.rmtree(left, ignore_errors=True)
            yield
