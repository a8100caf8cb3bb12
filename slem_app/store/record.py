"""Who saved a label, when, with what, and what it cost: kept with every version, beside what the client said
of it.

Tags are MONAI Label's: a label tagged `final` is done, any other tag is a draft. Only final labels are
learnt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from slem_app.errors import BadLabel, BadSetting
from slem_app.result_warning import ResultWarning, read_warnings
from slem_app.trust import NOTHING, Trust

__all__ = ["DRAFT", "FINAL", "NOBODY", "NOTES", "RECORD", "LabelRecord", "check_meta"]

FINAL, DRAFT = "final", "original"
RECORD = "record"
"""Its key in a version's meta.json; nothing that a client sends can replace it."""
NOTES = "notes"
"""The key of what clients say of a version beside that; the server goes by nothing of it."""
NOBODY = frozenset({"", "user-xyz"})  # 3D Slicer's client id until somebody changes it


@dataclass(frozen=True)
class LabelRecord:
    """How one version of a label came about."""

    ts: float = 0.0
    """When it was saved, seconds since 1970."""
    reader: str = ""
    """Who saved it, 'id@place'; empty: nobody, a model made it alone."""
    client: str = ""
    """With what, e.g. '3D Slicer', 'OHIF', 'slem predict'; empty: not known."""
    model: str = ""
    """The model whose result was corrected, or which made it; empty: not known."""
    model_version: str = ""
    """Its version."""
    model_sha256: str = ""
    """Of its weights."""
    automatic: bool = False
    """A model's result as it is; with a reader, one that they have confirmed."""
    seconds: float | None = None
    """Spent by this reader on the case since its first request about it, or since this reader's version
    before; None: not known.
    """
    clicks: int | None = None
    """Clicks and scribbles that this reader placed meanwhile; None: not known."""
    user: str = ""
    """Who was logged in; empty: the server asks nobody to."""
    preparation: Mapping[str, Any] = field(default_factory=dict)
    """What was done to the study before the model saw it (`PreparationReport.table`); empty: nothing, or not
    known.
    """
    warnings: tuple[ResultWarning, ...] = ()
    """What the model's result came with; not those that its corrections have settled."""
    trust: Trust = NOTHING
    """What the model says of its result as it is: where it may be wrong, how good it probably is."""

    prior: str = ""
    """The label of the patient's earlier visit that the reader began with, 'CASE/final/2'; empty: none."""

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> LabelRecord:
        """From a version's meta; what an older one does not hold stays unknown."""
        known = {one.name for one in fields(cls)}
        told = {name: value for name, value in meta.get(RECORD, {}).items() if name in known}
        told["warnings"] = read_warnings(told.get("warnings", ()))
        told["trust"] = Trust.of_table(told.get("trust"))
        return cls(
            **(
                {
                    "ts": float(meta.get("ts", 0.0)),
                    "reader": str(meta.get("client_id", "")),
                    "model": str(meta.get("model") or ""),
                }
                | told
            )
        )

    def to_meta(self) -> dict[str, Any]:
        """As it is kept."""
        return {RECORD: self.table()}

    def table(self) -> dict[str, Any]:
        """Of plain JSON types."""
        return {**asdict(self), "trust": self.trust.table()}

    @property
    def chosen_by_hand(self) -> dict[str, str]:
        """Sequence -> series that a person had chosen when the model saw the study, see `Study.by_hand`."""
        return dict(self.preparation.get("chosen_by_hand") or {})

    @property
    def confirmed(self) -> bool:
        """A reader has saved it exactly as a model made it."""
        return self.automatic and bool(self.reader)

    @property
    def who(self) -> str:
        """The user who was logged in, else the reader's own id where it tells readers apart, else with its
        place; a model where no reader took part.
        """
        if not (self.reader or self.user):
            return f"{self.model} {self.model_version}".strip() or "unknown"
        if self.user:
            return self.user
        name = self.reader.partition("@")[0]
        return self.reader if name in NOBODY else name


def check_meta(meta: Mapping[str, Any]) -> None:
    """Whether what is kept with a version is of the kinds that it must be; what is not there is no harm.

    Raises:
        BadLabel: a field of another kind, e.g. because somebody has changed the file by hand.
    """
    record = meta.get(RECORD, {})
    if not isinstance(record, Mapping):
        raise BadLabel(f"{RECORD} must be an object, got {type(record).__name__}")
    values = {**{key: value for key, value in meta.items() if key in KINDS}, **dict(record)}
    for key, value in values.items():
        if key in KINDS and not _fits(value, KINDS[key]):
            raise BadLabel(f"{key} must be {KINDS[key]}, got {repr(value)[:60]}")
    if not all(_fits(value, "a number") for value in meta.get("label_names", {}).values()):
        raise BadLabel("label_names must hold a number for each name")
    try:
        read_warnings(values.get("warnings", ()))
        Trust.of_table(values.get("trust"))
    except BadSetting as error:
        raise BadLabel(str(error)) from error
    if not all(isinstance(name, str) for name in meta.get("present", ())):
        raise BadLabel("present must hold names")


KINDS = {
    **dict.fromkeys(("ts",), "a number"),
    **dict.fromkeys(("seconds", "clicks"), "a number or nothing"),
    **dict.fromkeys(("reader", "client", "model_version", "model_sha256"), "a text"),
    **dict.fromkeys(("user", "sequence", "prior"), "a text"),
    **dict.fromkeys(("client_id", "model"), "a text or nothing"),
    "automatic": "true or false",
    **dict.fromkeys(("label_names", "dicom", "preparation", "trust", NOTES), "an object"),
    **dict.fromkeys(("present", "warnings"), "a list"),
}
"""What a field must be."""


def _fits(value: Any, kind: str) -> bool:
    if value is None:
        return kind.endswith("or nothing")
    kinds: dict[str, type | tuple[type, ...]] = {
        "a number": (int, float),
        "a text": str,
        "true or false": bool,
        "an object": Mapping,
        "a list": list,
    }
    wanted = kinds[kind.removesuffix(" or nothing")]
    return isinstance(value, wanted) and not (isinstance(value, bool) and wanted is not bool)
