"""From the network's probabilities to exclusive labels on the reference grid.

Invariant: the regions form a tree by the labels they hold (two of them are nested or disjoint), and so does
the result: a voxel lies in a region only if it lies in the region's parent. Nothing here knows the brain:
organs are a tree of depth one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import ndimage

from slem_app.errors import BadCard, BadGrid, BadWeights
from slem_app.labels import LabelSet
from slem_app.types import Grid, triple
from slem_app.volumes import geometry

__all__ = ["PostProcess", "decide", "margins", "outline", "restore"]

# network voxels interpolated around those over the threshold; one suffices, since a mean of voxels never
# exceeds the largest
MARGIN = 2
# corners connect: a thin rim of enhancing tumour hangs together by them
TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True)
class PostProcess:
    """Clean-up between probabilities and labels; a setting of the card.

    Example:
        >>> PostProcess(smallest={"WT": 100.0}, region_minimum={"ET": 50.0}).threshold
        0.5
    """

    threshold: float = 0.5
    """Probability from which a voxel belongs to a region."""
    smallest: Mapping[str, float] = field(default_factory=dict)
    """Region -> mm3 under which one connected component is dropped (handed to the parent region)."""
    region_minimum: Mapping[str, float] = field(default_factory=dict)
    """Region -> mm3 under which all of it is handed to the parent region, e.g. a trace of enhancing tumour to
    the core.
    """

    def __post_init__(self) -> None:
        if not 0 < self.threshold < 1:
            raise BadCard(f"postprocess: threshold must lie between 0 and 1, got {self.threshold}")
        for key, table in (("smallest", self.smallest), ("region_minimum", self.region_minimum)):
            if wrong := {name: mm3 for name, mm3 in table.items() if not mm3 >= 0}:
                raise BadCard(f"postprocess: {key} must hold volumes of 0 mm3 or more, got {wrong}")

    def check(self, labels: LabelSet) -> None:
        """Refuse regions that `labels` does not have.

        Raises:
            BadCard: an unknown region.
        """
        known = [region.name for region in labels.regions]
        if unknown := sorted({*self.smallest, *self.region_minimum} - set(known)):
            raise BadCard(f"postprocess names unknown regions {unknown}: the model has {known}")


def decide(
    probabilities: np.ndarray, labels: LabelSet, settings: PostProcess, voxel_volume: float
) -> np.ndarray:
    """Exclusive labels from the probabilities of the regions, nesting kept, small components handed to the
    parent region.

    A voxel belongs to a region if its probability reaches the threshold there and in every region around it;
    among regions that exclude each other the most probable one wins. Then it takes the label of the innermost
    region. A region whose labels all lie in inner regions has no label of its own: its voxels go to the most
    probable inner region from which they were not dropped, or to the background.

    Args:
        probabilities: (R, I, J, K) in 0..1, in the order of `labels.regions`.
        labels: the model's labels and regions.
        settings: thresholds and clean-up.
        voxel_volume: mm3 of one voxel.

    Returns:
        (I, J, K) uint8, 0 background.

    Raises:
        BadCard: settings that name unknown regions.
        BadWeights: another number of regions, or probabilities that are not finite.
    """
    settings.check(labels)
    _check(probabilities, labels)
    result = np.zeros(probabilities.shape[1:], np.uint8)
    tree = _Tree.of(labels)
    outline = tree.outline(probabilities) >= settings.threshold
    box = geometry.bounding_box(outline)
    if outline[box].size:
        _fill(result[box], probabilities[(slice(None), *box)], tree, settings, voxel_volume)
    return result


def restore(
    probabilities: np.ndarray, source: Grid, reference: Grid, labels: LabelSet, settings: PostProcess
) -> np.ndarray:
    """Labels on the reference grid: probabilities are interpolated linearly onto it, then decided there.

    Only the box in which anything is likely is interpolated. A reference voxel outside the network's grid is
    background.

    Args:
        probabilities: (R, I, J, K) in 0..1 on `source`.
        source: the network's grid.
        reference: the grid of the result.
        labels: the model's labels and regions.
        settings: thresholds and clean-up.

    Returns:
        (I, J, K) uint8 on `reference`, Fortran order (the order in which files store it).

    Raises:
        BadCard: settings that name unknown regions.
        BadGrid: probabilities of another shape than `source`.
        BadWeights: another number of regions, or probabilities that are not finite.
    """
    settings.check(labels)
    _check(probabilities, labels)
    if probabilities.shape[1:] != source.shape:
        raise BadGrid(
            f"probabilities of {probabilities.shape[1:]} voxels came with a grid of {source.shape}: both "
            f"must be the network's"
        )
    result = np.zeros(reference.shape, np.uint8, order="F")
    outline = _Tree.of(labels).outline(probabilities) >= settings.threshold
    box = geometry.bounding_box(outline)
    if not outline[box].size:
        return result
    box = _grown(box, source.shape, MARGIN)
    part = source.crop(tuple(s.start for s in box), tuple(s.stop - s.start for s in box))
    target = _covering(part, reference)
    if target is None:
        return result
    grid = reference.crop(tuple(s.start for s in target), tuple(s.stop - s.start for s in target))
    moved = np.stack([geometry.resample(channel[box], part, grid, order=1) for channel in probabilities])
    result[target] = decide(moved, labels, settings, reference.voxel_volume)
    return result


def outline(probabilities: np.ndarray, labels: LabelSet) -> np.ndarray:
    """(I, J, K) largest probability of an outermost region, from (R, I, J, K)."""
    return _Tree.of(labels).outline(probabilities)


def margins(logits: np.ndarray, labels: LabelSet, label: str, threshold: float = 0.5) -> np.ndarray:
    """Log-odds of each decision that leads to `label`; all are positive exactly where thresholding the nested
    regions gives it.

    The decisions are: into each region around the label, not into the regions inside it, and rather than into
    a disjoint neighbour.

    Args:
        logits: (R, I, J, K) in the order of `labels.regions`.
        labels: the model's.
        label: a label's name, or '' for the background.
        threshold: probability from which a voxel belongs to a region.

    Returns:
        (decisions, I, J, K) float32.
    """
    shift = float(np.log(threshold / (1 - threshold)))
    sets = [frozenset(region.labels) for region in labels.regions]
    around = [r for r, members in enumerate(sets) if label in members]
    innermost = min((sets[r] for r in around), key=len, default=frozenset(labels.names))
    found = [logits[r] - shift for r in around] + [
        shift - logits[q] for q in _outermost(sets, innermost, label)
    ]
    for r in around:
        parent = min((sets[q] for q in around if sets[r] < sets[q]), key=len, default=frozenset(labels.names))
        found += [logits[r] - logits[q] for q in _outermost(sets, parent, label) if not sets[q] & sets[r]]
    return np.stack(found).astype(np.float32, copy=False)


def _outermost(sets: list[frozenset[str]], within: frozenset[str], label: str) -> list[int]:
    """The largest regions inside `within` that do not hold `label`."""
    inside = [q for q, members in enumerate(sets) if members <= within and label not in members]
    return [q for q in inside if not any(sets[q] < sets[o] for o in inside)]


def _check(probabilities: np.ndarray, labels: LabelSet) -> None:
    if probabilities.ndim != 4 or len(probabilities) != len(labels.regions):
        raise BadWeights(
            f"probabilities for the regions {[r.name for r in labels.regions]} must have the shape "
            f"({len(labels.regions)}, I, J, K), got {probabilities.shape}: the weights do not fit the card"
        )
    if not np.isfinite(
        np.add.reduce(probabilities, axis=None, dtype=np.float64)
    ):  # NaN and infinity survive a sum
        raise BadWeights(
            "the network gave probabilities that are not finite: the weights are damaged, or the image "
            "overflows the precision used"
        )


@dataclass(frozen=True)
class _Tree:
    """Which region lies directly in which, and the label that each region adds to its inner regions."""

    names: tuple[str, ...]
    """Names of the regions."""
    roots: tuple[int, ...]
    """The outermost regions."""
    children: tuple[tuple[int, ...], ...]
    """Region -> the regions directly inside it."""
    own: tuple[int, ...]
    """Region -> value of the label that lies in it and in no inner region, or 0."""

    @classmethod
    def of(cls, labels: LabelSet) -> _Tree:
        sets = [frozenset(region.labels) for region in labels.regions]
        around = [[q for q in range(len(sets)) if members < sets[q]] for members in sets]
        parents = [min(outer, key=lambda q: len(sets[q]), default=None) for outer in around]
        children = tuple(
            tuple(r for r, parent in enumerate(parents) if parent == q) for q in range(len(sets))
        )
        rest = [members.difference(*(sets[r] for r in inner)) for members, inner in zip(sets, children)]
        return cls(
            names=tuple(region.name for region in labels.regions),
            roots=tuple(r for r, parent in enumerate(parents) if parent is None),
            children=children,
            own=tuple(labels.value(next(iter(names))) if names else 0 for names in rest),
        )

    def outline(self, probabilities: np.ndarray) -> np.ndarray:
        """(I, J, K) largest probability of an outermost region."""
        return (
            probabilities[self.roots[0]]
            if len(self.roots) == 1
            else probabilities[list(self.roots)].max(axis=0)
        )


def _fill(
    result: np.ndarray, probabilities: np.ndarray, tree: _Tree, settings: PostProcess, voxel_volume: float
) -> None:
    """Write the labels of every region into `result`, the outer regions first."""
    stack = [(tree.roots, np.ones(result.shape, bool), True)]
    while stack:
        regions, inside, shared = stack.pop()
        raw = _exclusive(probabilities, regions, inside, settings.threshold)
        kept = {r: _cleaned(mask, tree.names[r], settings, voxel_volume) for r, mask in raw.items()}
        if not shared:
            _share_out(probabilities, inside, raw, kept)
        for r, mask in kept.items():
            result[mask] = tree.own[r]
            if tree.children[r]:
                stack.append((tree.children[r], mask, tree.own[r] > 0))


def _exclusive(
    probabilities: np.ndarray, regions: tuple[int, ...], inside: np.ndarray, threshold: float
) -> dict[int, np.ndarray]:
    """Mask of each of some disjoint regions: at or over the threshold, and the most probable of them."""
    if len(regions) == 1:
        return {regions[0]: (probabilities[regions[0]] >= threshold) & inside}
    best = probabilities[list(regions)].argmax(axis=0)
    return {r: (probabilities[r] >= threshold) & (best == n) & inside for n, r in enumerate(regions)}


def _share_out(
    probabilities: np.ndarray, inside: np.ndarray, raw: dict[int, np.ndarray], kept: dict[int, np.ndarray]
) -> None:
    """Give the voxels of a region without a label of its own to its inner regions (`kept`,
    changed in place).
    """
    left = inside.copy()
    for mask in kept.values():
        left &= ~mask
    whole = {r: raw[r].any() and not kept[r].any() for r in kept}  # all of it was dropped
    # (regions, voxels left)
    chance = np.stack([np.where(raw[r][left] | whole[r], -1.0, probabilities[r][left]) for r in kept])
    best = chance.argmax(axis=0)
    for n, mask in enumerate(kept.values()):
        mask[left] = (best == n) & (chance[n] >= 0)


def _cleaned(mask: np.ndarray, name: str, settings: PostProcess, voxel_volume: float) -> np.ndarray:
    """`mask` without the components, or without the whole, that the settings call too small."""
    smallest = settings.smallest.get(name, 0.0) / voxel_volume
    if smallest > 1 and mask.any():
        parts, _ = ndimage.label(mask, TOUCHING)
        size = np.bincount(parts.ravel())
        size[0] = 0
        mask = (size >= smallest)[parts]
    if np.count_nonzero(mask) < settings.region_minimum.get(name, 0.0) / voxel_volume:
        mask = np.zeros_like(mask)
    return mask


def _grown(
    box: tuple[slice, slice, slice], shape: tuple[int, int, int], margin: int
) -> tuple[slice, slice, slice]:
    return triple(slice(max(0, s.start - margin), min(n, s.stop + margin)) for s, n in zip(box, shape))


def _covering(part: Grid, reference: Grid) -> tuple[slice, slice, slice] | None:
    """The box of `reference` that holds every voxel centre inside `part`, or None."""
    edges = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * np.array(part.shape) - 0.5
    index = reference.to_index(part.to_world(edges))
    low = np.maximum(np.floor(index.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(index.max(axis=0)).astype(int) + 1, reference.shape)
    return triple(slice(int(a), int(b)) for a, b in zip(low, high)) if (low < high).all() else None
