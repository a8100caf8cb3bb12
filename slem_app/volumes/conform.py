"""What turns a study as a scanner gives it into what a network of stripped brains was trained on: sequences
that do not lie on each other are moved, all but the brain is cut away, and what the coil did to the brain's
brightness is taken out.

A study whose sequences are stripped and in register comes out as it came in.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np

from slem_app.errors import BadVolume
from slem_app.preemption import yielding_map
from slem_app.types import Grid
from slem_app.volumes.brain import BrainMask
from slem_app.volumes.brainmask.find import one_piece
from slem_app.volumes.brainmask.weights import load_mask_network
from slem_app.volumes.coarse import FINE, Coarse, coarse
from slem_app.volumes.geometry import lattice, resample
from slem_app.volumes.levels import Levels, Volume
from slem_app.volumes.receive_field import ReceiveField, receive_field
from slem_app.volumes.register import brains_agree, distance_moved, rigid
from slem_app.volumes.report import PreparationReport
from slem_app.volumes.tissue import check_tissue

__all__ = ["Conformed", "conform"]

LEAST_MOVE = 1.0  # mm; a smaller one is no more than the measure's own error
LEAST_AGREEMENT = 0.8  # Dice of the brains after a registration under which it is not believed
OWN_MASK = "the reader's own mask"
LEAST_SEEN = 0.5  # share of a reader's mask that must lie in the image that it is for
LEAST_BRAIN, MOST_BRAIN = 300.0, 2500.0  # ml; what is smaller or larger is no head's brain


@dataclass(frozen=True, eq=False)
class Conformed:
    """A study whose sequences lie on each other and show the brain alone."""

    volumes: Mapping[str, Volume]
    """By sequence name: those that were moved with a new affine, those that were cut with zeros around."""
    moves: Mapping[str, np.ndarray]
    """Sequence -> (4, 4) RAS from the common world to that of its header; only those that were moved."""
    report: PreparationReport
    """What was done."""
    brain: BrainMask | None
    """Where the brain was found; None where nothing was cut away."""


def conform(
    volumes: Mapping[str, Volume],
    levels: Mapping[str, Levels],
    fixed: str,
    displaced: frozenset[str],
    strip: bool,
    given: BrainMask | None = None,
) -> Conformed:
    """Register and strip.

    Args:
        volumes: by sequence name.
        levels: of each of them.
        fixed: the sequence that stays.
        displaced: those that are registered in any case; whole heads that are stripped
            always are.
        strip: cut all but the brain away.
        given: the reader's own brain mask, in the world of `fixed`; every sequence is cut to it.

    Raises:
        BadVolume: no brain is found in a whole head, or one of an even substance, or a mask that is none.
    """
    heads = frozenset(name for name, level in levels.items() if strip and level.head is not None)
    wanted = [name for name in volumes if name != fixed and (name in displaced or heads & {name, fixed})]
    with ThreadPoolExecutor(max_workers=2) as pool:
        made = yielding_map(
            pool, lambda name: coarse(volumes[name], levels[name], f"sequence {name}", strip), volumes
        )
        seen = dict(zip(volumes, made, strict=True))
        placed = yielding_map(pool, lambda name: _place(seen[fixed], seen[name]), wanted)
        places = dict(zip(wanted, placed, strict=True))
    left_out = {name: place for name, place in places.items() if isinstance(place, str)}
    moves = {name: place for name, place in places.items() if isinstance(place, np.ndarray)}
    used = {
        name: Volume(volume.array, _back(moves.get(name), volume.grid))
        for name, volume in volumes.items()
        if name not in left_out
    }
    distances = {name: distance_moved(seen[fixed], matrix) for name, matrix in moves.items()}
    method, ml, brain = "", 0.0, given
    uneven: dict[str, float] = {}
    whole = [name for name in used if name in heads]
    if given is not None:
        method, ml = OWN_MASK, given.ml
        _check_given(given, volumes[fixed].grid)
        used = {name: volume if name in heads else given.cut_out(volume) for name, volume in used.items()}
    elif whole:
        brain = _common_brain({name: seen[name] for name in used}, moves, heads)
        method, ml = load_mask_network()[0].name, brain.ml
        _check_size(ml, sorted(whole))
    if brain is not None:
        if whole:
            check_tissue((_shown(seen[name], moves.get(name), brain) for name in whole), (FINE,) * 3)
        fields = _fields({name: seen[name] for name in whole}, moves, brain)
        for name in whole:
            even = fields[name].taken_from(used[name]) if name in fields else used[name]
            used[name] = brain.cut_out(even)
        uneven = {name: field.spread for name, field in fields.items()}
    report = PreparationReport(distances, fixed if places else "", left_out, method, ml, uneven=uneven)
    return Conformed(used, moves, report, brain)


def _place(fixed: Coarse, moving: Coarse) -> np.ndarray | str | None:
    """(4, 4) RAS from the common world to the sequence's; None if it lies right; or why it has no place."""
    matrix = rigid(fixed, moving)
    agreement = brains_agree(fixed, moving, matrix)
    if agreement < LEAST_AGREEMENT:
        return (
            f"it could not be registered (the brains overlap by {agreement:.2f}, at least "
            f"{LEAST_AGREEMENT} is needed): is it of the same patient?"
        )
    return matrix if distance_moved(fixed, matrix) >= LEAST_MOVE else None


def _back(matrix: np.ndarray | None, grid: Grid) -> Grid:
    """A sequence's grid in the common world."""
    return grid if matrix is None else Grid(grid.shape, np.linalg.inv(matrix) @ grid.affine)


def _common_brain(
    seen: Mapping[str, Coarse], moves: Mapping[str, np.ndarray], heads: frozenset[str]
) -> BrainMask:
    """The brain on which the sequences agree: the mean of their probabilities, each in its own field of
    view.
    """
    places = {name: _back(moves.get(name), seen[name].grid) for name in sorted(heads & set(seen))}
    grid = lattice(list(places.values()), (FINE,) * 3)
    total, count = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    for name, place in places.items():
        field = _back(moves.get(name), seen[name].field)
        known = resample(np.ones(field.shape, np.float32), field, grid, order=0)
        total += known * resample(seen[name].brain, place, grid, order=1)
        count += known
    return BrainMask(one_piece(total > 0.5 * np.maximum(count, 1)), grid)


def _shown(seen: Coarse, move: np.ndarray | None, brain: BrainMask) -> tuple[np.ndarray, np.ndarray]:
    """A whole head and where in it the brain is."""
    return seen.image, brain.on(_back(move, seen.grid))


def _fields(
    seen: Mapping[str, Coarse], moves: Mapping[str, np.ndarray], brain: BrainMask
) -> dict[str, ReceiveField]:
    """What coils did to the brightness of each whole head, in the common world."""
    places = {name: replace(one, grid=_back(moves.get(name), one.grid)) for name, one in seen.items()}
    with ThreadPoolExecutor(max_workers=2) as pool:
        found = pool.map(lambda one: receive_field(one, brain), places.values())
        return {name: field for name, field in zip(places, found, strict=True) if field is not None}


def _check_size(ml: float, heads: list[str]) -> None:
    if not LEAST_BRAIN <= ml <= MOST_BRAIN:
        raise BadVolume(
            f"no brain is found in {', '.join(heads)} (what looks most like one has {ml:.0f} ml, "
            f"{LEAST_BRAIN:.0f} to {MOST_BRAIN:.0f} are expected): is it an MR image of a whole head? A "
            f"brain that was cut out already needs an even background around it"
        )


def _check_given(mask: BrainMask, grid: Grid) -> None:
    """Refuse a reader's mask that is no brain, or lies elsewhere."""
    if not LEAST_BRAIN <= mask.ml <= MOST_BRAIN:
        raise BadVolume(
            f"the given mask has {mask.ml:.0f} ml, a brain has {LEAST_BRAIN:.0f} to {MOST_BRAIN:.0f}: give a "
            f"mask of the whole brain, not of the tumor or of the head"
        )
    index = grid.to_index(mask.grid.to_world(np.argwhere(mask.array)[::97]))
    inside = ((index >= -0.5) & (index <= np.array(grid.shape) - 0.5)).all(axis=1).mean()
    if inside < LEAST_SEEN:
        raise BadVolume(
            f"only {inside:.0%} of the given mask lie in the image that it is for: it is of another image, "
            f"or was drawn in another space; draw it on the image on whose grid the others are brought"
        )
