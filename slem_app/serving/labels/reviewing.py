"""What reviewers decide of labels, in the words of MONAI Label's reviewer module for 3D Slicer.

The module keeps `segmentationMeta` beside a label: `status` ('approved', 'flagged' or empty), `approvedBy`,
`level`, `comment`, `editTime`. Here it is read into a `ReviewDecision` and written from one, so that the
module, the pages and the routes of this server tell the same.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from slem_app.errors import BadSetting
from slem_app.serving.auth.identity import reader_of, user_of
from slem_app.store.labels import LabelVersion
from slem_app.store.review import APPROVED, REJECTED, UNDECIDED, ReviewDecision

__all__ = [
    "REVIEWER_FIELD",
    "Verdict",
    "decided_in_slicer",
    "review_fields",
    "version_fields",
    "without_verdict",
]

REVIEWER_FIELD = "segmentationMeta"
"""The module's key in what is kept with a label."""
STATES = {"approved": APPROVED, "flagged": REJECTED}
WORDS = {state: word for word, state in STATES.items()}
FLAGGED = "flagged in 3D Slicer, without a comment"


@dataclass(frozen=True)
class Verdict:
    """What a request says of a version."""

    state: str
    """'approved', 'rejected', or empty to take back what was decided."""
    why: str = ""
    """Words of whoever decides."""
    level: str = ""
    """'easy', 'medium', 'hard' or empty."""
    named: str = ""
    """What they call themselves, which counts where nobody logs in."""

    def decision(self, version: LabelVersion) -> ReviewDecision:
        """As a decision of whoever sends this request, now.

        Raises:
            BadSetting: as `ReviewDecision`.
        """
        by = user_of() or self.named.strip()[:200] or reader_of("").strip("@") or "somebody without a name"
        return ReviewDecision(version.number, self.state, by, time.time(), self.why.strip(), self.level)


def decided_in_slicer(fields: object) -> Verdict:
    """What the reviewer module says of a version.

    Raises:
        BadSetting: fields of another shape.
    """
    if not isinstance(fields, Mapping):
        raise BadSetting(f"{REVIEWER_FIELD} must be an object, got {type(fields).__name__}")
    said = {key: str(fields.get(key) or "") for key in ("status", "level", "approvedBy", "comment")}
    state = STATES.get(said["status"], UNDECIDED)
    why = said["comment"] or (FLAGGED if state == REJECTED else "")
    return Verdict(state, why, said["level"], said["approvedBy"])


def review_fields(version: LabelVersion) -> dict[str, object]:
    """State and decision of a version as clients are told of them; the decision as the reviewer module reads
    it,
    too.
    """
    decision = version.decision
    told: dict[str, object] = {"state": version.state, "confirmed": version.record.confirmed}
    if decision is None:
        return told
    fields = {
        "status": WORDS.get(decision.state, ""),
        "approvedBy": decision.by,
        "level": decision.level,
        "comment": decision.why,
        "editTime": int(decision.ts),
    }
    return {**told, REVIEWER_FIELD: fields}


def version_fields(case: str, version: LabelVersion, counts: bool) -> dict[str, object]:
    """A version as clients are told of it.

    Args:
        case: case id.
        version: of its labels.
        counts: it is the final label that is learnt.
    """
    decision = version.decision
    return {
        "case": case,
        "tag": version.tag,
        "version": version.number,
        "counts": counts,
        "present": list(version.present),
        "state": version.state,
        "confirmed": version.record.confirmed,
        "decision": None if decision is None else asdict(decision),
        **version.record.table(),
    }


def without_verdict(notes: Mapping[str, object]) -> dict[str, object]:
    """What comes with a label that is saved, without a decision of it: a label that is new has none yet."""
    fields = notes.get(REVIEWER_FIELD)
    if not isinstance(fields, Mapping):
        return dict(notes)
    return {**notes, REVIEWER_FIELD: {**fields, "status": "", "approvedBy": ""}}
