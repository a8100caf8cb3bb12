"""What is segmented: exclusive labels, the nested regions made of them, and the codings in which public data
sets write them.

A label's value is 1..N without gaps: 3D Slicer gives value k to the k-th name. Codings live in
`codings.yaml`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from slem_app.errors import BadCard, BadLabel
from slem_app.yaml_tables import load_yaml

__all__ = ["CHECK_HERE", "Code", "Coding", "Label", "LabelSet", "Region", "codings", "decide_coding"]

# request fields of MONAI Label's clients: a label of that name would be overwritten by them
RESERVED = frozenset(
    [
        "image",
        "label",
        "model",
        "device",
        "params",
        "logging",
        "client_id",
        "session",
        "description",
        "slice",
        "roi",
        "background",
        "foreground",
    ]
)


@dataclass(frozen=True)
class Code:
    """A coded concept, DICOM PS3.3 section 8.8."""

    value: str
    """E.g. '79654002'."""
    meaning: str
    """E.g. 'Edema'."""
    scheme: str = "SCT"
    """Coding scheme designator; SCT = SNOMED CT."""


SIDES = {"right": Code("24028007", "Right"), "left": Code("7771000", "Left")}
"""DICOM PS3.16, CID 244."""


@dataclass(frozen=True)
class Label:
    """One exclusive class of the result."""

    name: str
    """What the reader sees, e.g. 'edema'."""
    value: int
    """Value in the label map, 1..N."""
    type: Code
    """Segmented property type."""
    category: Code = Code("49755003", "Morphologically Altered Structure")
    """Segmented property category."""
    color: tuple[int, int, int] = (255, 0, 0)
    """Recommended display colour, sRGB 0-255."""
    laterality: str = ""
    """'right' or 'left' where the type has two of which this is one; else ''."""

    def __post_init__(self) -> None:
        if self.laterality and self.laterality not in SIDES:
            raise BadCard(
                f"label {self.name!r}: laterality must be {', '.join(map(repr, SIDES))} or '', got "
                f"{self.laterality!r}"
            )

    @property
    def modifiers(self) -> tuple[Code, ...]:
        """Codes that qualify the type."""
        return (SIDES[self.laterality],) if self.laterality else ()


CHECK_HERE = Label(
    "check here",
    1,
    Code("check_here", "Place where a segmentation is likely wrong", "99SLEM"),
    Code("309825002", "Spatial and Relational Concept"),
    (255, 0, 255),
)
"""No finding: where a model says that its result is likely wrong."""


@dataclass(frozen=True)
class Region:
    """A union of labels that the network predicts as one sigmoid channel."""

    name: str
    """E.g. 'WT'."""
    labels: tuple[str, ...]
    """Names of its labels."""


@dataclass(frozen=True)
class LabelSet:
    """All labels of a model and its regions; constructed = consistent.

    Two regions are nested or disjoint, so that exclusive labels follow from them.

    Raises:
        BadCard: values not 1..N, a reserved, doubled or unprintable name, a region of an unknown label or one
            that overlaps another without nesting, labels that the regions cannot tell apart.
    """

    labels: tuple[Label, ...]
    """In order of value."""
    regions: tuple[Region, ...]
    """In the order of the network's channels."""

    def __post_init__(self) -> None:
        names = [label.name for label in self.labels]
        if [label.value for label in self.labels] != list(range(1, len(names) + 1)):
            raise BadCard(
                f"label values must be 1..{len(names)} in order, got {[label.value for label in self.labels]}"
            )
        for name in names:
            if name in RESERVED or name.startswith("result_") or names.count(name) > 1:
                raise BadCard(
                    f"label name {name!r} is reserved by the clients or given twice: choose another"
                )
            if not name.strip() or not name.isprintable():
                raise BadCard(f"label name {name!r} is empty or holds unprintable characters: choose another")
        for region in self.regions:
            if unknown := set(region.labels) - set(names):
                raise BadCard(
                    f"region {region.name!r} names unknown labels {sorted(unknown)}; known: {names}"
                )
        self._check_nesting()
        signatures = [self.signature(name) for name in names]
        if len(set(signatures)) < len(names) or () in signatures:
            raise BadCard(
                f"the regions {[r.name for r in self.regions]} cannot tell the labels {names} apart"
            )

    def _check_nesting(self) -> None:
        for n, region in enumerate(self.regions):
            if not region.labels or region.name in [other.name for other in self.regions[:n]]:
                raise BadCard(f"region {region.name!r} is given twice or holds no label")
            for other in self.regions[:n]:
                shared = set(region.labels) & set(other.labels)
                if shared and not (
                    set(region.labels) < set(other.labels) or set(other.labels) < set(region.labels)
                ):
                    raise BadCard(
                        f"the regions {region.name!r} and {other.name!r} overlap in {sorted(shared)}: one "
                        "must lie inside the other, or they must share no label"
                    )

    def with_label(self, label: Label) -> LabelSet:
        """The same with one more label as its last value, and a region of it alone."""
        last = replace(label, value=len(self.labels) + 1)
        return LabelSet((*self.labels, last), (*self.regions, Region(label.name, (label.name,))))

    @property
    def sided(self) -> bool:
        """True where right and left are different labels: a mirror image would be wrong."""
        return any(label.laterality for label in self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Label names in order of value."""
        return tuple(label.name for label in self.labels)

    def signature(self, name: str) -> tuple[str, ...]:
        """The regions that hold label `name`."""
        return tuple(region.name for region in self.regions if name in region.labels)

    def value(self, name: str) -> int:
        """Value of the label called `name`.

        Raises:
            BadLabel: no such label.
        """
        for label in self.labels:
            if label.name == name:
                return label.value
        raise BadLabel(f"unknown label {name!r}: this model has {', '.join(self.names)}")

    def region_masks(self, label_map: np.ndarray) -> np.ndarray:
        """(I, J, K) label map -> (R, I, J, K) bool, one channel a region."""
        table = np.zeros((len(self.regions), 256), dtype=bool)
        for row, region in enumerate(self.regions):
            table[row, [self.value(name) for name in region.labels]] = True
        return table[:, label_map]

    def remap(self, label_map: np.ndarray, names: Mapping[int, str]) -> np.ndarray:
        """Rewrite a label map whose value v means `names[v]` (empty: background) into this set's values,
        uint8.

        Raises:
            BadLabel: a value that `names` lacks, or a name that is not of this set.
        """
        present = [int(v) for v in np.unique(label_map) if v != 0]
        if unknown := [v for v in present if v not in names]:
            raise BadLabel(f"label values {unknown} have no name; named are {dict(names)}")
        table = np.zeros(max([0, *present]) + 1, dtype=np.uint8)
        for v in present:
            table[v] = self.value(names[v]) if names[v] else 0
        return table[label_map.astype(np.int64)]


@dataclass(frozen=True)
class Coding:
    """How a public data set writes its labels."""

    name: str
    """E.g. 'brats2018'."""
    layouts: tuple[str, ...]
    """File naming schemes in which it occurs (`Study.layout`)."""
    values: Mapping[int, str]
    """Value in the file -> label name, or '' for a class that becomes background."""
    description: str
    """One line for people."""


@cache
def codings() -> Mapping[str, Coding]:
    """The known codings by name, from `codings.yaml`."""
    table = load_yaml((Path(__file__).parent / "codings.yaml").read_text())
    return {
        name: Coding(
            name=name,
            **{
                **row,
                "layouts": tuple(row["layouts"]),
                "values": {v: label for k, label in row["values"].items() for v in _span(k)},
            },
        )
        for name, row in table.items()
    }


def _span(key: int | str) -> range:
    """The values of a key: 4, or a range '55-70' with both ends in it."""
    first, _, last = str(key).partition("-")
    return range(int(first), int(last or first) + 1)


def decide_coding(
    present: Iterable[int], layout: str, declared: str | None = None, names: Sequence[str] = ()
) -> Coding:
    """Decide how label values are coded from the naming scheme, the values present and, first of all, the
    declaration.

    Value 4 alone decides nothing: it is enhancing tumour until 2021 and the resection cavity in 2024. So a
    coding is taken only if it is declared, or is the one coding of this layout that fits, or if all that fit
    give the present values the same meaning.

    Args:
        present: label values in the file; 0 is ignored.
        layout: naming scheme of the study, e.g. 'brats2018'.
        declared: name of a coding, from the user.
        names: label names of the model; a file in the model's own values needs the coding 'own'.

    Raises:
        BadLabel: unknown declaration, a value outside the declared coding, or an undecidable coding.
    """
    values = sorted({int(v) for v in present} - {0})
    known = dict(codings())
    if names:
        known["own"] = Coding("own", (), dict(enumerate(names, 1)), "the model's own values")
    how = (
        "declare it with --coding NAME, or `coding: NAME` in slem.yaml in the studies folder; NAME is one of "
        + ", ".join(sorted(known))
    )
    if declared is not None:
        if declared not in known:
            raise BadLabel(f"unknown label coding {declared!r}: {how}")
        if extra := [v for v in values if v not in known[declared].values]:
            raise BadLabel(
                f"label values {extra} do not exist in coding {declared!r} ({known[declared].description}): "
                f"{how}"
            )
        return known[declared]
    fits = [c for c in known.values() if layout in c.layouts and all(v in c.values for v in values)]
    if fits and all([c.values[v] for v in values] == [fits[0].values[v] for v in values] for c in fits):
        return fits[0]
    raise BadLabel(
        f"the label coding cannot be determined: values {values} in a study of layout {layout!r} fit "
        f"{[c.name for c in fits] or 'no known coding of that layout'}: {how}"
    )
