"""What reviewers decided of saved labels: approved or rejected, by whom, when and why.

    <store>/labels/<case>/<tag>/review.json

The file lies beside the versions of its tag and holds every decision in the order in which they were made;
the
last one about a version counts. A version is never changed by it. What was saved as final waits as
`submitted`;
anything else is a `draft` until somebody saves it.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from slem_app.errors import BadSetting, SlemError, StorageFailed
from slem_app.files import atomic_file, exclusive
from slem_app.store.record import FINAL
from slem_app.strict_json import parse_object

__all__ = [
    "APPROVED",
    "DECIDED",
    "DRAFTED",
    "REJECTED",
    "REVIEW_FILE",
    "SUBMITTED",
    "UNDECIDED",
    "ReviewDecision",
    "decide",
    "decisions",
    "latest_decision",
    "state_of",
]

logger = logging.getLogger(__name__)

DRAFTED, SUBMITTED, APPROVED, REJECTED = "draft", "submitted", "approved", "rejected"
UNDECIDED = ""
DECIDED = (APPROVED, REJECTED, UNDECIDED)
"""What may be decided; the empty text takes back what was decided before."""
LEVELS = ("", "easy", "medium", "hard")
REVIEW_FILE = "review.json"
LARGEST = 2**20  # bytes of a review file
LONGEST_WHY = 2000  # characters


@dataclass(frozen=True)
class ReviewDecision:
    """What a reviewer decided of one version.

    Raises:
        BadSetting: an unknown state or level, a rejection without a reason, a reason that is too long.
    """

    number: int
    """Of the version, within its case and tag."""
    state: str
    """'approved' or 'rejected'; empty: taken back."""
    by: str
    """Who decided: the user who was logged in, else the name that they gave."""
    ts: float
    """When, seconds since 1970."""
    why: str = ""
    """Their words; a rejection needs some."""
    level: str = ""
    """How hard the case was for them: 'easy', 'medium', 'hard'; empty: they did not say."""

    def __post_init__(self) -> None:
        if self.state not in DECIDED:
            raise BadSetting(f"a label can be {APPROVED} or {REJECTED}, not {self.state[:40]!r}")
        if self.level not in LEVELS:
            raise BadSetting(f"level must be one of {', '.join(LEVELS[1:])}, got {self.level[:40]!r}")
        if self.state == REJECTED and not self.why.strip():
            raise BadSetting("say why the label is rejected: whoever corrects it has to know")
        if len(self.why) > LONGEST_WHY:
            raise BadSetting(f"the reason may have {LONGEST_WHY} characters, got {len(self.why)}: shorten it")
        if self.number < 1 or not math.isfinite(self.ts):
            raise BadSetting(f"a decision names a version from 1 on and a time, got {self.number}, {self.ts}")


def decisions(folder: Path) -> tuple[ReviewDecision, ...]:
    """All decisions about the versions of one case and tag, oldest first.

    A file that cannot be read is named in the log and counts as none: labels stay as they were saved.

    Args:
        folder: of the versions.
    """
    path = folder / REVIEW_FILE
    try:
        return _read(path)
    except FileNotFoundError:
        return ()
    except (OSError, TypeError, KeyError, ValueError, SlemError) as error:
        logger.error("the decisions in %s are set aside, they cannot be read: %s", path, error)
        return ()


def latest_decision(folder: Path, number: int) -> ReviewDecision | None:
    """The decision that counts of a version; None: nobody has decided, or it was taken back."""
    about = [one for one in decisions(folder) if one.number == number]
    return about[-1] if about and about[-1].state else None


def state_of(folder: Path, number: int) -> str:
    """'draft', 'submitted', 'approved' or 'rejected' of a version; `folder` is that of its tag."""
    decided = latest_decision(folder, number)
    if decided is not None:
        return decided.state
    return SUBMITTED if folder.name == FINAL else DRAFTED


def decide(folder: Path, decision: ReviewDecision) -> None:
    """Add a decision.

    Args:
        folder: of the versions of its case and tag.
        decision: what was decided.

    Raises:
        StorageFailed: the disk refused; earlier decisions are as they were.
        TooLarge, BadSetting: the file that is there cannot be read, and is not written over.
    """
    path = folder / REVIEW_FILE
    try:
        with exclusive(folder):
            try:
                known: tuple[ReviewDecision, ...] = _read(path)
            except FileNotFoundError:
                known = ()
            table = {"decisions": [asdict(one) for one in (*known, decision)]}
            with atomic_file(path) as file:
                file.write(json.dumps(table, indent=1).encode("utf-8"))
    except OSError as error:
        raise StorageFailed(
            f"the decision cannot be saved in {path}: {error.strerror or error}; free some space, "
            "decide again"
        ) from error


def _read(path: Path) -> tuple[ReviewDecision, ...]:
    rows: Any = parse_object(path.read_bytes(), path.name, LARGEST).get("decisions")
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise BadSetting(f"{path} holds no list of decisions: restore it from a backup, or remove it")
    try:
        return tuple(
            ReviewDecision(
                int(row["number"]),
                str(row["state"]),
                str(row["by"]),
                float(row["ts"]),
                str(row.get("why", "")),
                str(row.get("level", "")),
            )
            for row in rows
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadSetting(
            f"{path} holds a decision that cannot be read ({error}): restore it from a backup"
        ) from error
