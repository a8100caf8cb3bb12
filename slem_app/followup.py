"""What changed between two segmentations of one patient: lesions matched, volumes, products, the category of
RANO 2.0 with its reasons and its limits.

Everything is measured on each visit's own grid; only which lesion is which is seen on one grid, after the
earlier one was carried over. A category is a sum of rules on images. It knows no steroids, no clinical state
and no treatment, and says so each time.

Source of the rules: Wen et al., RANO 2.0 (J Clin Oncol 41:5187, 2023, doi 10.1200/JCO.23.01059), contrast-
enhancing disease: the product of diameters comes first, volumes are an option, by the thresholds that belong
to them (-65 % and +40 %). Progression is asked before response and counts from the smallest sum so far,
response from the baseline. The rule of four weeks for responses is that of RANO 2010 (Wen et al., J Clin
Oncol 28:1963). How many lesions RANO 2.0 takes as targets was not checked against its full text: all are
counted, and it is told whether the category would be another with a few of the largest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
from scipy import ndimage

from slem_app.errors import BadGrid
from slem_app.measure import Lesion
from slem_app.types import Grid

__all__ = ["LIMITS", "Burden", "Category", "Change", "Pair", "Response", "match", "respond"]

SHARED = 0.1  # of the smaller lesion's voxels, from which two lesions are one
REACH = (
    4.0  # mm between two lesions that share no voxel, up to which they may be one that has shrunk or moved
)
TARGETS = (2, 3, 5)  # of the largest lesions, with which the category is asked again
GROWN, SHRUNK = 0.25, 0.50  # of the sum of products: PD from, PR from
GROWN_ML, SHRUNK_ML = 0.40, 0.65  # of the volume, likewise
LIMITS = (
    "RANO also asks for the dose of steroids and for the patient's clinical state, which are not known here.",
    "The baseline is the first visit here that has a label. Of a newly diagnosed glioma RANO 2.0 takes the "
    "MRI after radiotherapy, not that after surgery; surgery between visits makes their sums incomparable.",
    "Within 12 weeks after radiotherapy RANO 2.0 has progression confirmed by a further MRI or by histology; "
    "later, and in recurrent glioma, it need not be confirmed.",
    "Complete and partial response must hold for four weeks: until a further MRI has shown it, it counts as "
    "stable disease.",
    "All measurable enhancing lesions are counted, where a reader would choose a few as targets; the "
    "reasons say whether that matters. Lesions under 10 mm in one of both diameters add nothing to the sum. "
    "What does not enhance is not judged.",
)
"""What a category here does not know."""


class Category(Enum):
    """Of the response."""

    CR = "complete response"
    PR = "partial response"
    SD = "stable disease"
    PD = "progressive disease"
    NE = "not evaluable"


@dataclass(frozen=True)
class Pair:
    """What one lesion of the earlier visit has become; several on one side have merged or split."""

    before: tuple[int, ...]
    """Numbers of the earlier visit's lesions, from 0 on in its order; () where the lesion is new."""
    now: tuple[int, ...]
    """Of the later one's; () where it is gone."""

    @property
    def kind(self) -> str:
        """'same', 'new', 'gone', 'merged', 'split' or 'regrouped'."""
        if not self.before:
            return "new"
        if not self.now:
            return "gone"
        if len(self.before) > 1:
            return "regrouped" if len(self.now) > 1 else "merged"
        return "split" if len(self.now) > 1 else "same"


def match(before: np.ndarray, now: np.ndarray, grid: Grid) -> tuple[Pair, ...]:
    """Which lesion is which.

    Lesions that share a tenth of the smaller one are one. Of the others, a lesion on either side without a
    partner takes the nearest free one within 4 mm: a small one may lie beside itself after registration.

    Args:
        before: (I, J, K) lesion numbers of the earlier visit from 1 on, carried onto the later visit's grid.
        now: the same of the later visit.
        grid: of both.

    Returns:
        The pairs, in the order of the later visit's lesions, then those that are gone.

    Raises:
        BadGrid: unlike shapes.
    """
    if before.shape != now.shape:
        raise BadGrid(
            f"the earlier lesions have {before.shape} voxels, the later ones {now.shape}: bring them to one "
            f"grid first"
        )
    first, second = int(before.max(initial=0)), int(now.max(initial=0))
    links = _overlaps(before, now, first, second)
    links |= _near(before, now, grid, links)
    return _grouped(links, first, second)


def _overlaps(before: np.ndarray, now: np.ndarray, first: int, second: int) -> set[tuple[int, int]]:
    """(earlier, later) numbers, from 0 on, that share enough."""
    shared = np.zeros((first + 1, second + 1), dtype=np.int64)
    np.add.at(shared, (before[now > 0], now[now > 0]), 1)
    sizes, others = np.bincount(before.ravel(), minlength=first + 1), shared.sum(axis=0)
    least = np.minimum(sizes[:, None], others[None])
    found = np.argwhere(shared[1:, 1:] >= np.maximum(SHARED * least[1:, 1:], 1))
    return {(int(a), int(b)) for a, b in found}


def _near(
    before: np.ndarray, now: np.ndarray, grid: Grid, links: set[tuple[int, int]]
) -> set[tuple[int, int]]:
    """Pairs of lesions without a partner that lie close to each other, the nearest first."""
    linked = {a for a, _ in links}, {b for _, b in links}
    free = [n for n in range(int(now.max(initial=0))) if n not in linked[1]]
    lost = [n for n in range(int(before.max(initial=0))) if n not in linked[0]]
    boxes = ndimage.find_objects(now)
    reach = np.ceil(REACH / grid.spacing).astype(int) + 1
    found = []
    for one in free if lost else []:
        box = tuple(slice(max(side.start - r, 0), side.stop + r) for side, r in zip(boxes[one], reach))
        away = ndimage.distance_transform_edt(now[box] != one + 1, sampling=grid.spacing)
        for other in lost:
            there = before[box] == other + 1
            if there.any() and (distance := float(away[there].min())) <= REACH:
                found.append((distance, other, one))
    pairs: dict[int, int] = {}
    for _, other, one in sorted(found):
        if other not in pairs and one not in pairs.values():
            pairs[other] = one
    return set(pairs.items())


def _grouped(links: set[tuple[int, int]], first: int, second: int) -> tuple[Pair, ...]:
    """Lesions that hang together by links, as pairs."""
    groups: list[tuple[set[int], set[int]]] = []
    for a, b in sorted(links):
        touched = [group for group in groups if a in group[0] or b in group[1]]
        merged = ({a}.union(*(group[0] for group in touched)), {b}.union(*(group[1] for group in touched)))
        groups = [group for group in groups if group not in touched] + [merged]
    linked = {a for a, _ in links}, {b for _, b in links}
    groups += [(set(), {b}) for b in range(second) if b not in linked[1]]
    groups.sort(key=_first_now)
    gone: list[tuple[set[int], set[int]]] = [({a}, set()) for a in range(first) if a not in linked[0]]
    return tuple(Pair(tuple(sorted(a)), tuple(sorted(b))) for a, b in (*groups, *gone))


def _first_now(group: tuple[set[int], set[int]]) -> int:
    return min(group[1])


@dataclass(frozen=True)
class Change:
    """Of one lesion, or of what several have become."""

    pair: Pair
    """Which."""
    before: tuple[Lesion, ...]
    """As they were, on the earlier visit's own grid."""
    now: tuple[Lesion, ...]
    """As they are, on the later visit's own."""

    @classmethod
    def of(cls, pair: Pair, before: Sequence[Lesion], now: Sequence[Lesion]) -> Change:
        """From all lesions of both visits."""
        return cls(pair, tuple(before[n] for n in pair.before), tuple(now[n] for n in pair.now))

    @property
    def volumes_ml(self) -> tuple[float, float]:
        """Before and now."""
        return sum(one.volume_ml for one in self.before), sum(one.volume_ml for one in self.now)

    @property
    def products(self) -> tuple[float, float]:
        """mm2, before and now, measurable or not."""
        return (
            sum(one.diameters.product for one in self.before),
            sum(one.diameters.product for one in self.now),
        )

    @property
    def became_measurable(self) -> bool:
        """Too small to be followed before and not now, and larger by a quarter."""
        small = bool(self.before) and not any(one.diameters.measurable for one in self.before)
        before, now = self.products
        return small and any(one.diameters.measurable for one in self.now) and now >= (1 + GROWN) * before

    def table(self) -> dict[str, object]:
        """For JSON."""
        before, now = self.volumes_ml
        was, is_now = self.products
        place = (self.now or self.before)[0].centre
        return {
            "kind": self.pair.kind,
            "before": [number + 1 for number in self.pair.before],
            "now": [number + 1 for number in self.pair.now],
            "centre_ras_mm": [round(value, 1) for value in place],
            "volume_before_ml": round(before, 3),
            "volume_now_ml": round(now, 3),
            "volume_change_percent": percent(before, now),
            "product_before_mm2": round(was, 1),
            "product_now_mm2": round(is_now, 1),
            "product_change_percent": percent(was, is_now),
        }


@dataclass(frozen=True)
class Burden:
    """The enhancing tumour of one visit."""

    lesions: tuple[Lesion, ...]
    """All of it."""
    targets: int = 0
    """How many of the largest measurable lesions are added up; 0: all."""

    @property
    def products(self) -> tuple[float, ...]:
        """mm2 of each measurable lesion, the largest first."""
        pairs = (one.diameters for one in self.lesions)
        return tuple(sorted((pair.product for pair in pairs if pair.measurable), reverse=True))

    @property
    def product(self) -> float:
        """mm2: the sum over the targets."""
        return sum(self.products[: self.targets or None])

    @property
    def volume_ml(self) -> float:
        """Of all lesions."""
        return sum(one.volume_ml for one in self.lesions)


@dataclass(frozen=True)
class Response:
    """A category with what led to it."""

    category: Category
    """By products."""
    by_volume: Category
    """By the thresholds for volumes."""
    reasons: tuple[str, ...]
    """In sentences."""
    limits: tuple[str, ...] = LIMITS
    """What it does not know."""

    def table(self) -> Mapping[str, object]:
        """For JSON."""
        return {
            "category": self.category.name,
            "meaning": self.category.value,
            "category_by_volume": self.by_volume.name,
            "reasons": list(self.reasons),
            "limits": list(self.limits),
        }


def respond(visits: Sequence[Burden], changes: Sequence[Change]) -> Response:
    """The category of the last visit.

    Progression is counted from the smallest sum so far, response from the first visit. A new measurable
    lesion is progression, and so is one that has become measurable and larger by a quarter; a new lesion
    that is too small to be measured rules out a response. The reasons say whether the category would be
    another if only some of the largest lesions of each visit were targets.

    Args:
        visits: in order of time, two or more.
        changes: from the visit before the last to the last.

    Raises:
        ValueError: fewer than two visits.
    """
    if len(visits) < 2:
        raise ValueError("a response needs two visits")
    response = _respond(visits, changes)
    most = max(len(visit.products) for visit in visits)
    fewer = {
        count: _respond([replace(visit, targets=count) for visit in visits], changes).category
        for count in TARGETS
        if count < most
    }
    return replace(response, reasons=(*response.reasons, *_by_targets(response.category, fewer)))


def _by_targets(category: Category, fewer: Mapping[int, Category]) -> tuple[str, ...]:
    """What the number of targets changes, in a sentence; nothing where there are no more lesions."""
    if not fewer:
        return ()
    others = {count: one for count, one in fewer.items() if one != category}
    if not others:
        counts = " or ".join(map(str, fewer))
        return (f"All lesions are counted; with the {counts} largest as targets the category is the same.",)
    told = ", ".join(f"{one.name} with the {count} largest" for count, one in others.items())
    return (f"All lesions are counted; it depends on the number of targets: {told}.",)


def _respond(visits: Sequence[Burden], changes: Sequence[Change]) -> Response:
    """The same for the targets that each visit has."""
    *earlier, now = visits
    if not any(visit.lesions for visit in visits):
        none = "There is no enhancing tumour at any of the visits: nothing to compare."
        return Response(Category.NE, Category.NE, (none,))
    new = [change for change in changes if change.pair.kind == "new"]
    news = _of_new(new, changes)
    if news:
        return Response(Category.PD, Category.PD, tuple(news))
    kept = f"{len(new)} new lesions are too small to be measured." if new else ""
    products = [visit.product for visit in earlier]
    volumes = [visit.volume_ml for visit in earlier]
    measured = max(products) > 0
    category, why = _category(products, now.product, (GROWN, SHRUNK), "sum of products", "mm2")
    by_volume, why_volume = _category(volumes, now.volume_ml, (GROWN_ML, SHRUNK_ML), "volume", "ml")
    reasons = [why] if measured else ["No lesion was measurable before: the sum of products says nothing."]
    if not now.lesions:
        category = by_volume = Category.CR if measured else Category.SD
        reasons = ["No enhancing tumour is left."]
        if not measured:
            reasons.append("It was never measurable: stable disease is the best that can be said.")
    elif not measured:
        category = by_volume = Category.SD
    elif category == Category.CR:  # what is left is too small for the sum
        category = Category.PR
        reasons.append("What is left is too small to be measured, but it is there: no complete response.")
    if kept:
        reasons.append(kept)
        category, by_volume = (
            Category.SD if one in (Category.CR, Category.PR) else one for one in (category, by_volume)
        )
    return Response(category, by_volume, (*reasons, why_volume))


def _of_new(new: Sequence[Change], changes: Sequence[Change]) -> list[str]:
    """Lesions that are progression by themselves, in sentences."""
    told = [
        f"A new measurable lesion, {one.diameters.long:.0f} x {one.diameters.short:.0f} mm, at "
        f"{', '.join(f'{value:.0f}' for value in one.centre)} mm (R to L, P to A, I to S)."
        for change in new
        for one in change.now
        if one.diameters.measurable
    ]
    return told + [
        f"A lesion has become measurable: {change.products[0]:.0f} before, {change.products[1]:.0f} mm2 now."
        for change in changes
        if change.became_measurable
    ]


def _category(
    before: Sequence[float], now: float, limits: tuple[float, float], what: str, unit: str
) -> tuple[Category, str]:
    """By one quantity, the earlier visits in order of time."""
    grown, shrunk = limits
    first, least = before[0], min(before)
    digits = 0 if unit == "mm2" else 2
    told = f"The {what} is {now:.{digits}f} {unit}, {first:.{digits}f} at the first visit"
    if least < first:
        told += f", {least:.{digits}f} at its smallest"
    told += f" ({_signed(first, now)})."
    if now >= (1 + grown) * least and now > least:
        return Category.PD, f"{told} Progression is from {grown:+.0%} on the smallest."
    if first > 0 and now <= (1 - shrunk) * first:
        return (
            Category.PR if now > 0 else Category.CR
        ), f"{told} Response is from -{shrunk:.0%} on the first."
    return Category.SD, f"{told} Between -{shrunk:.0%} of the first and {grown:+.0%} of the smallest: stable."


def _signed(before: float, now: float) -> str:
    change = percent(before, now)
    return "it was none before" if change is None else f"{change:+.0f} %"


def percent(before: float, now: float) -> float | None:
    """The change in %; None where there was nothing before."""
    return round(100 * (now - before) / before, 1) if before else None
