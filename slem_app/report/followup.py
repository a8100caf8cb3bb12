"""A patient's visits and what changed: the earlier label laid on the later examination, lesions matched, the
category of RANO 2.0.

Volumes and diameters are those of each visit's own label on its own grid. Only which lesion is which depends
on the registration of the two visits; where that is not to be believed nothing is matched, and it is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from slem_app.errors import BadLabel, SlemError
from slem_app.followup import Burden, Category, Change, Response, match, percent, respond
from slem_app.labels import LabelSet
from slem_app.measure import Lesion, Measurements, acquired_along, lesions, measure
from slem_app.predict import misleading
from slem_app.report.compose import bundled_card, not_shown
from slem_app.report.pictures import draw
from slem_app.store.case_labels import CaseLabels, LabelledCase
from slem_app.store.record import FINAL
from slem_app.store.review import REJECTED
from slem_app.studies.patients import Patient, Visit, patient_of
from slem_app.types import Grid
from slem_app.volumes.levels import Volume
from slem_app.volumes.read import read
from slem_app.volumes.visits import Move, carry, move_between, shared_sequence
from slem_app.weights import Card

__all__ = ["ENHANCING", "FollowUp", "VisitFindings", "compose_followup"]

ENHANCING = "enhancing tumor"
"""The label on which RANO is decided."""


@dataclass(frozen=True, eq=False)
class VisitFindings:
    """One visit's label as it was measured."""

    visit: Visit
    """Which."""
    label: LabelledCase
    """Its images and its label."""
    array: np.ndarray
    """(I, J, K) label values of the model."""
    grid: Grid
    """Of the label."""
    found: Measurements
    """All structures."""
    lesions: tuple[Lesion, ...]
    """Of the structure that is followed."""
    pieces: np.ndarray
    """(I, J, K) numbers of these lesions from 1 on."""

    @property
    def confirmed(self) -> bool:
        """A reader's final label, which no reviewer has rejected."""
        return self.label.version.tag == FINAL and self.label.version.state != REJECTED

    def assessable(self, name: str) -> bool:
        """Whether its sequences show a label or region."""
        return name not in self.found.not_assessable

    def table(self) -> dict[str, object]:
        """For JSON."""
        return {
            "case": self.visit.case,
            "date": self.visit.date,
            "time": self.visit.time,
            "name": self.visit.name,
            "confirmed": self.confirmed,
            "by": self.label.version.record.who,
            **self.found.table(),
        }


@dataclass(frozen=True, eq=False)
class FollowUp:
    """What changed until one visit."""

    case: str
    """The visit's case."""
    labels: LabelSet
    """Of the segmentations."""
    followed: str
    """The label or region whose lesions are matched."""
    visits: tuple[VisitFindings, ...]
    """In order of time, the last one is the case itself."""
    move: Move | None
    """How the visit before was laid on this one; None where there is none."""
    changes: tuple[Change, ...]
    """Of each lesion since the visit before; empty where the visits could not be laid on each other."""
    response: Response | None
    """By RANO 2.0; None for models without enhancing tumour, and where there is no earlier visit."""
    doubts: tuple[str, ...]
    """What a reader must see."""
    pictures: Mapping[str, np.ndarray] = field(default_factory=dict)
    """(H, W, 3) uint8 by title: one slice at both visits."""

    @property
    def draft(self) -> bool:
        """One of the labels was confirmed by nobody."""
        return not all(one.confirmed for one in self.visits)

    @property
    def remarks(self) -> tuple[str, ...]:
        """How it was measured, and what the category does not know, in sentences."""
        told: tuple[str, ...] = ()
        if self.move is not None and not self.move.doubt:
            told = (
                f"The visit before was moved by {self.move.distance:.1f} mm on average, by its "
                f"{self.move.sequence}; the brains overlap by {self.move.agreement:.2f}. Volumes and "
                "diameters are of each visit's own label. Products in the sums count lesions of 10 mm and "
                "more in both diameters; those of single lesions are told whatever their size.",
            )
        return (*told, *(self.response.limits if self.response else ()))

    def totals(self) -> list[dict[str, Any]]:
        """Volume and products of every label and region at each visit, with the change since the first; of
        those that each visit's sequences show.
        """
        rows: list[dict[str, Any]] = []
        for one in self.visits[-1].found.structures:
            if not all(visit.assessable(one.name) for visit in self.visits):
                continue
            series = [visit.found.structure(one.name) for visit in self.visits]
            volumes = [structure.volume_ml for structure in series]
            products = [structure.product for structure in series]
            rows.append(
                {
                    "name": one.name,
                    "volumes_ml": [round(value, 3) for value in volumes],
                    "volume_change_percent": percent(volumes[0], volumes[-1]),
                    "sums_of_products_mm2": [round(value, 1) for value in products],
                    "product_change_percent": percent(products[0], products[-1]),
                }
            )
        return rows

    def table(self) -> dict[str, object]:
        """For JSON."""
        return {
            "case": self.case,
            "followed": self.followed,
            "status": "draft" if self.draft else "confirmed",
            "visits": [one.table() for one in self.visits],
            "totals": self.totals(),
            "registration": self.move.table() if self.move else None,
            "lesions": [one.table() for one in self.changes],
            "response": self.response.table() if self.response else None,
            "doubts": list(self.doubts),
        }


def compose_followup(
    labels: CaseLabels, case: str, model: str, card_of: Callable[[str], Card] = bundled_card
) -> FollowUp:
    """What changed until a case.

    Args:
        labels: the studies and their label store.
        case: the later visit, which must have a label.
        model: whose labels these are where they do not say so.
        card_of: the card of a model by its name.

    Raises:
        NotFound: no such case, or it has no label.
        BadLabel: a label that the model does not have.
        BadGrid, BadStudy, BadVolume: label or images cannot be used.
    """
    patient = patient_of(labels.source, case)
    label = labels.newest(case)
    card = card_of(label.version.record.model or model)
    this = _findings(patient.visit(case), label, card)
    before, doubts = _earlier(labels, patient, case, card)
    visits = (*before, this)
    doubts = [*patient.doubts, *doubts, *_drafts(visits)]
    followed = _followed(card.labels)
    if not this.assessable(followed):
        told = (*doubts, f"This examination's sequences do not show {followed}: nothing is compared.")
        return FollowUp(case, card.labels, followed, (this,), None, (), None, told)
    if not before:
        told = (*doubts, "There is no earlier visit with a label: nothing to compare.")
        return FollowUp(case, card.labels, followed, visits, None, (), None, told)
    move, shown = _laid(before[-1], this)
    if move.doubt:
        doubts.append(f"The visits could not be laid on each other, so no lesion is matched: {move.doubt}.")
        unclear = Response(Category.NE, Category.NE, ("New lesions cannot be told from old ones.",))
        response = unclear if followed == ENHANCING else None
        return FollowUp(case, card.labels, followed, visits, move, (), response, tuple(doubts))
    carried = carry(before[-1].pieces, before[-1].grid, move.matrix, this.grid)
    doubts += _outside(before[-1], carried)
    pairs = match(carried, this.pieces, this.grid)
    changes = tuple(Change.of(pair, before[-1].lesions, this.lesions) for pair in pairs)
    burdens = [Burden(one.lesions) for one in visits]
    response = respond(burdens, changes) if followed == ENHANCING else None
    pictures = _pictures(before[-1], this, move, shown, card.labels)
    return FollowUp(case, card.labels, followed, visits, move, changes, response, tuple(doubts), pictures)


def _earlier(
    labels: CaseLabels, patient: Patient, case: str, card: Card
) -> tuple[list[VisitFindings], list[str]]:
    """The earlier visits that can be compared, and why others cannot."""
    usable, doubts = [], []
    for visit in patient.earlier(case):
        if not labels.store.tags(visit.case):
            doubts.append(f"{visit.case} ({visit.when}) has no label and is left out.")
            continue
        try:
            one = _findings(visit, labels.newest(visit.case), card)
        except SlemError as error:
            doubts.append(f"{visit.case} ({visit.when}) is left out: {error}")
            continue
        if not one.assessable(_followed(card.labels)):
            doubts.append(f"{visit.case} ({visit.when}) is left out: its sequences do not show {ENHANCING}.")
        else:
            usable.append(one)
    return usable, doubts


def _findings(visit: Visit, label: LabelledCase, card: Card) -> VisitFindings:
    array, grid = label.label()
    try:
        array = card.labels.remap(array, dict(enumerate(label.names, 1)))
    except BadLabel as error:
        raise BadLabel(f"its label does not fit {card.name}: {error}") from error
    without = not_shown(card, tuple(label.images), array)
    found = measure(array, grid, card.labels, misleading(card.labels, without))
    followed = _followed(card.labels)
    members = next((one.labels for one in card.labels.regions if one.name == followed), (followed,))
    mask = np.isin(array, [card.labels.value(name) for name in members])
    return VisitFindings(visit, label, array, grid, found, *lesions(mask, grid, acquired_along(grid)))


def _followed(labels: LabelSet) -> str:
    """The label of enhancing tumour; of other models the first region, else the first label."""
    if ENHANCING in labels.names:
        return ENHANCING
    return labels.regions[0].name if len(labels.regions[0].labels) > 1 else labels.regions[0].labels[0]


def _drafts(visits: tuple[VisitFindings, ...]) -> list[str]:
    cases = [one.visit.case for one in visits if not one.confirmed]
    return [f"Not confirmed by a reader: the labels of {', '.join(cases)}."] if cases else []


def _laid(earlier: VisitFindings, later: VisitFindings) -> tuple[Move, tuple[Volume, Volume]]:
    """The earlier visit on the later one, and the images by which."""
    images = later.label.images, earlier.label.images
    wanted = (later.label.sequence, earlier.label.sequence, *images[0])
    sequence = shared_sequence(wanted, tuple(images[0]), tuple(images[1]))
    now, before = (read(one.label.images[sequence]) for one in (later, earlier))
    tumours = Volume(later.array, later.grid), Volume(earlier.array, earlier.grid)
    return move_between(now, before, sequence, tumours), (before, now)


def _outside(earlier: VisitFindings, carried: np.ndarray) -> list[str]:
    """Lesions of the earlier visit that the later examination does not reach."""
    there = np.unique(carried)
    lost = [n for n in range(1, len(earlier.lesions) + 1) if n not in there]
    if not lost:
        return []
    numbers = ", ".join(map(str, lost))
    return [f"Earlier lesion {numbers} lies outside the later examination: it may not be gone."]


def _pictures(
    earlier: VisitFindings, later: VisitFindings, move: Move, images: tuple[Volume, Volume], labels: LabelSet
) -> dict[str, np.ndarray]:
    """The same slice at both visits, on the later one's grid."""
    before, now = images
    moved = Volume(before.array, Grid(before.grid.shape, np.linalg.inv(move.matrix) @ before.grid.affine))
    carried = carry(earlier.array, earlier.grid, move.matrix, later.grid)
    found = later.found if later.lesions else measure(carried, later.grid, labels)
    first = draw({"": moved}, carried, later.grid, labels, found, cross=False)[""]
    second = draw({"": now}, later.array, later.grid, labels, found)[""]
    return {
        f"{earlier.visit.when or earlier.visit.case}, {move.sequence}": first,
        f"{later.visit.when or later.visit.case}, {move.sequence}": second,
    }
