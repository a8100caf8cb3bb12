"""What a reader must know before they trust a result, apart from notes on what was merely done.

A warning has a code for programs, which stays, and a sentence for people, which may be put better.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

from slem_app.errors import BadSetting

__all__ = ["OF_ONE_RESULT", "WARNINGS", "ResultWarning", "lasting", "read_warnings"]

WARNINGS: Mapping[str, str] = {
    "enhancement-not-assessable": "there is no T1 after contrast: nothing is called enhancing",
    "edema-not-assessable": "there is neither FLAIR nor T2: nothing is called edema",
    "t1-alone": "there is a T1 before contrast and nothing else: nothing is segmented automatically",
    "sequence-left-out": "a sequence could not be registered and was not used",
    "sequence-displaced": "a sequence seems displaced against another",
    "sequence-cut": "a sequence does not cover all of what the others show",
    "sequence-twice": "two sequences are the same image",
    "orientation-doubtful": (
        "by its shape, the brain lies upside down or back to front, unlike what the header says; swapped "
        "sides alone cannot be detected in this way"
    ),
    "chosen-series-gone": "a series that a person chose for a sequence is gone, so the rules decided",
    "sequence-by-looks": "names and headers leave open which series it is: one was chosen by its looks",
    "sequence-assumed": "the sequence of an image is not known: one was assumed",
    "not-stripped": "a model that was trained on skull-stripped brains was shown skull and skin",
    "nothing-found": "the result is empty",
    "small-result": "the result is smaller than what the model was trained on",
    "large-result": "the result is larger than what the model was trained on",
    "near-surface": "most of the result lies close to the border of the brain mask",
    "unsure-result": "the network's own probabilities are low",
    "far-change": "a prompt changed much that is far away from it",
}
"""Code -> when it is given."""
OF_ONE_RESULT = frozenset(
    {"nothing-found", "small-result", "large-result", "near-surface", "unsure-result", "far-change"}
)
"""Codes that speak of one result; the others speak of the study, whatever a reader corrects."""


@dataclass(frozen=True)
class ResultWarning:
    """One warning.

    Raises:
        BadSetting: a code that is no word, or no text.

    Example:
        >>> ResultWarning("nothing-found", "no tumor was found").table()
        {'code': 'nothing-found', 'text': 'no tumor was found'}
    """

    code: str
    """Of `WARNINGS`; of a label that a later version saved, perhaps one that is not known here."""
    text: str
    """For a reader: what is the matter, and what to do."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.code) or not self.text.strip():
            raise BadSetting(
                f"a warning needs a code of small letters, digits and hyphens, and a text; got "
                f"{self.code!r}, {self.text!r}"
            )

    def table(self) -> dict[str, str]:
        """Of plain JSON types."""
        return asdict(self)


def read_warnings(rows: object) -> tuple[ResultWarning, ...]:
    """From a list of what `table` gave.

    Raises:
        BadSetting: a row that is none.
    """
    found = []
    for row in rows if isinstance(rows, (list, tuple)) else [rows]:
        if not isinstance(row, Mapping) or not {"code", "text"} <= set(row):
            raise BadSetting(f"warnings must be a list of objects with code and text, got {repr(rows)[:120]}")
        found.append(ResultWarning(str(row["code"]), str(row["text"])))
    return tuple(found)


def lasting(warnings: Iterable[ResultWarning]) -> tuple[ResultWarning, ...]:
    """Those that still hold after a reader has changed the result."""
    return tuple(one for one in warnings if one.code not in OF_ONE_RESULT)
