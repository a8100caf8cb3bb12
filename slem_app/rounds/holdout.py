"""Which labelled cases validate: decided once for each case, by a hash of its id, and never changed by other
cases that come or go.

The user decides otherwise in a file, `hold_out.yaml`:

    validate: [case 7, case 12]
    train: [case 3]

What was decided without him is kept beside it in `hold_out.decided.json`, so a later round never measures on
what an earlier one has trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from slem_app.errors import BadSetting, StorageFailed
from slem_app.weights.store import write_file
from slem_app.yaml_tables import load_yaml

__all__ = ["FEWEST", "HoldOut", "split"]

FEWEST = 5
"""Labelled cases from which on the metric means something."""
TRAIN, VALIDATE = "train", "validate"
SIDES = (VALIDATE, TRAIN)


@dataclass(frozen=True)
class HoldOut:
    """Cases that are trained on, and those that validate."""

    train: tuple[str, ...]
    """Sorted."""
    validate: tuple[str, ...]
    """Sorted; empty where there is but one labelled case, or all others have been trained on."""
    trusted: bool
    """Whether the metric means something: at least `FEWEST` labelled cases, some of which validate."""
    note: str
    """What a person should know of it; empty: nothing."""


def split(cases: Sequence[str], file: Path | None, share: float = 0.2) -> HoldOut:
    """Divide labelled cases into those to train on and those that validate.

    A case validates if the hash of its id, as a number from 0 to 1, is less than `share`. Where that leaves
    no case that validates, or none to train on, the nearest of the cases that are new here goes to that side.
    A case that is alone is trained on.

    Args:
        cases: ids of all labelled cases.
        file: the user's `hold_out.yaml`, which need not exist; decisions are kept beside it. None: nothing is
            kept, so that with few cases it may change from call to call.
        share: of the cases that validate, 0 to 1.

    Raises:
        BadSetting: a file that cannot be read, with unknown keys, or with one case on both sides; a share out
            of range.
        StorageFailed: the disk refused to keep the decisions.

    Example:
        >>> split(["a", "b", "c", "d", "e", "f"], None).validate
        ('b', 'f')
    """
    if not 0 <= share <= 1:
        raise BadSetting(f"the share of held-out cases must be between 0 and 1, got {share}")
    ids = sorted(set(cases))
    pinned = _pinned(file) if file else {}
    kept = _decided(file) if file else {}
    known = {**kept, **pinned}
    # stays so when the user takes it off his list
    learnt = {case: TRAIN for case in ids if pinned.get(case) == TRAIN}
    decided = {**kept, **learnt, **_decide([case for case in ids if case not in known], known, ids, share)}
    if file and decided != kept:
        _keep(file, decided)
    sides = {case: pinned.get(case) or decided[case] for case in ids}
    train, validate = (tuple(case for case in ids if sides[case] == side) for side in (TRAIN, VALIDATE))
    moved = [case for case in validate if kept.get(case) == TRAIN]
    return HoldOut(
        train, validate, len(ids) >= FEWEST and bool(validate), _note(len(ids), train, validate, moved)
    )


def _decide(new: Sequence[str], known: Mapping[str, str], ids: Sequence[str], share: float) -> dict[str, str]:
    """The side of each new case, of which `known` says nothing."""
    places = {case: _place(case) for case in new}
    decided = {case: VALIDATE if place < share else TRAIN for case, place in places.items()}
    near_to_far = sorted(new, key=lambda case: (places[case], case))

    def there() -> list[str]:
        return [{**known, **decided}[case] for case in ids]

    if new and TRAIN not in there():
        decided[near_to_far[-1]] = TRAIN
    if new and share > 0 and VALIDATE not in there() and len(ids) > 1:
        decided[near_to_far[0]] = VALIDATE
    return decided


def _place(case: str) -> float:
    """A number from 0 to below 1 that depends on the id alone, the same on every machine."""
    return (
        int.from_bytes(
            hashlib.blake2b(case.encode("utf-8"), digest_size=8, person=b"slem-holdout").digest(), "big"
        )
        / 2**64
    )


def _note(count: int, train: Sequence[str], validate: Sequence[str], moved: Sequence[str]) -> str:
    notes = []
    if not validate:
        notes.append(
            "no labelled case is held out, so the metric was measured on training cases: do not trust it, "
            "and label more"
        )
    elif count < FEWEST:
        notes.append(
            f"the metric was measured on {len(validate)} of {count} labelled cases: do not trust it below "
            f"{FEWEST} labelled cases"
        )
    if count and not train:
        notes.append(
            "all labelled cases are held out, none is left to train on: label more, or list some under "
            "`train` in hold_out.yaml"
        )
    if moved:
        notes.append(
            f"cases that are held out now ({', '.join(moved)}) may have been trained on before: the metric "
            f"may be too high"
        )
    return "; ".join(notes)


def _pinned(file: Path) -> dict[str, str]:
    """Case -> side, as the user has it."""
    try:
        table = load_yaml(file.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadSetting(f"{file} cannot be read: {error}") from error
    if not isinstance(table, dict) or set(table) - set(SIDES):
        raise BadSetting(
            f"{file}: expected lists of cases under `validate` and `train` and nothing else, got {table!r}"
        )
    sides: dict[str, str] = {}
    for side in SIDES:
        listed = table.get(side) or []
        if not isinstance(listed, list) or not all(isinstance(case, str) for case in listed):
            raise BadSetting(f"{file}: {side} must be a list of case ids, numbers in quotes, got {listed!r}")
        if both := sorted(set(listed) & set(sides)):
            raise BadSetting(
                f"{file}: {', '.join(both)} is listed under both `validate` and `train`: remove it from one"
            )
        sides |= dict.fromkeys(listed, side)
    return sides


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}.decided.json")


def _decided(file: Path) -> dict[str, str]:
    """Case -> side, as decided by earlier calls."""
    path = _beside(file)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadSetting(f"{path} cannot be read: {error}; restore it from a backup") from error
    if not isinstance(table, dict) or not set(table.values()) <= set(SIDES):
        raise BadSetting(
            f"{path}: expected case ids with `validate` or `train`, got something else; restore it "
            "from a backup"
        )
    return table


def _keep(file: Path, decided: Mapping[str, str]) -> None:
    path = _beside(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(
            path, json.dumps(dict(sorted(decided.items())), indent=1, ensure_ascii=False).encode("utf-8")
        )
    except OSError as error:
        raise StorageFailed(
            f"{path} could not be written: {error.strerror or error}; it records which cases are held out: "
            f"free space, then train again"
        ) from error
