"""One study, registered and cut to the brain as a model's input is, on one grid, in its own intensities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from slem_app.errors import BadSetting, BadStudy
from slem_app.grouping import Grouping
from slem_app.preprocess.deface import face
from slem_app.result_warning import ResultWarning
from slem_app.types import Grid
from slem_app.volumes.brain import BrainMask
from slem_app.volumes.geometry import lattice, resample
from slem_app.volumes.levels import Levels, Volume, foreground
from slem_app.volumes.prepare import Preparation, prepare
from slem_app.volumes.read import read_all
from slem_app.volumes.report import PreparationReport
from slem_app.volumes.smoothed import resample_smoothed

__all__ = ["PreprocessSettings", "PreprocessedCase", "preprocess"]

SMALLEST = 0.3  # mm, of a grid that is asked for


@dataclass(frozen=True)
class PreprocessSettings:
    """What becomes of a study.

    Raises:
        BadSetting: a spacing that no image has.
    """

    spacing: float = 0.0
    """mm of the grid, the same along R, A and S; 0: the grid of the reference sequence as it is."""
    deface: bool = False
    """Keep the whole head and take the face away; else all but the brain is cut away."""
    register: bool = False
    """Register every sequence; else those of whole heads, and those that fit clearly better elsewhere."""
    reference: str = ""
    """Sequence that stays where it is; empty: the first of the model's order that the case has."""

    def __post_init__(self) -> None:
        if self.spacing and self.spacing < SMALLEST:
            raise BadSetting(
                f"a spacing is {SMALLEST} mm or more, or 0 for the reference's own grid; got {self.spacing:g}"
            )


@dataclass(frozen=True, eq=False)
class PreprocessedCase:
    """A study on one grid."""

    id: str
    """Case id."""
    images: Mapping[str, np.ndarray]
    """Sequence -> (I, J, K) float32 on `grid`, in the intensities of its file."""
    mask: np.ndarray
    """(I, J, K) bool: the brain; where nothing was cut away, what any sequence shows."""
    grid: Grid
    """Where all of it lies: the world of the reference's header."""
    reference: str
    """The sequence that stayed."""
    series: Mapping[str, str]
    """Sequence -> id of its series."""
    moves: Mapping[str, np.ndarray]
    """Sequence -> (4, 4) RAS mm, from a point of `grid`'s world to that of its own header."""
    report: PreparationReport
    """What was done."""
    warnings: tuple[ResultWarning, ...]
    """What must be known before it is used."""
    outside_ml: float
    """Millilitres of the brain outside `grid`."""
    defaced: bool
    """Whole heads without a face; else brains alone."""

    @property
    def mask_ml(self) -> float:
        """Millilitres of the mask."""
        return self.grid.millilitres(self.mask)


def preprocess(
    grouping: Grouping,
    sequences: tuple[str, ...],
    order: tuple[str, ...],
    preparation: Preparation,
    settings: PreprocessSettings,
    brain: BrainMask | None = None,
) -> PreprocessedCase:
    """Read a study and bring it onto one grid. Registration and brain mask are those of `prepare`, with which
    a server makes the network's input.

    Args:
        grouping: the study with its series named.
        sequences: those that are wanted; the others are left out.
        order: the first of these that the case has stays where it is.
        preparation: of the model, which says whether heads are cut to the brain.
        settings: what is wanted.
        brain: the user's own mask, in the world of the sequence that stays; default: it is found.

    Raises:
        BadStudy: none of the sequences is there.
        NotFound: the reference is not in this case.
        BadVolume, BadGrid: a series that cannot be used, or a whole head without a brain.
    """
    series = {name: one for name, one in grouping.sequences.items() if name in sequences}
    if not series:
        raise BadStudy(
            f"case {grouping.study.id} has none of the sequences {', '.join(sequences)}; it has "
            f"{', '.join(grouping.sequences) or 'none'}"
        )
    fixed = grouping.resolve(settings.reference) if settings.reference else grouping.reference(order)
    volumes = read_all(series)
    conformed: Literal["auto", "register"] = "register" if settings.register else "auto"
    done = prepare(volumes, sequences, preparation, fixed=fixed, conformed=conformed, brain=brain)
    own = volumes[fixed].grid
    grid = lattice([own], (settings.spacing,) * 3) if settings.spacing else own
    used = {
        name: Volume(volumes[name].array, _there(volumes[name].grid, done.moves.get(name)))
        for name in done.used
    }
    levels = {name: Levels.of(volumes[name].array, f"sequence {name}") for name in used}
    mask, outside = _mask(used, levels, done.brain, grid)
    cut = face(mask, grid) if settings.deface and done.brain is not None else None
    cuts = {name: done.brain if brain or levels[name].head is not None else None for name in used}
    images = {
        name: _image(volume, levels[name].background, cuts[name], cut, grid) for name, volume in used.items()
    }
    return PreprocessedCase(
        id=grouping.study.id,
        images=images,
        mask=mask,
        grid=grid,
        reference=fixed,
        series={name: series[name].id for name in used},
        moves={name: done.moves.get(name, np.eye(4)) for name in used},
        report=done.report,
        warnings=done.warnings,
        outside_ml=outside,
        defaced=cut is not None,
    )


def _there(grid: Grid, move: np.ndarray | None) -> Grid:
    """A sequence's grid in the reference's world."""
    return grid if move is None else Grid(grid.shape, np.linalg.inv(move) @ grid.affine)


def _mask(
    volumes: Mapping[str, Volume], levels: Mapping[str, Levels], brain: BrainMask | None, grid: Grid
) -> tuple[np.ndarray, float]:
    """(I, J, K) bool on the grid, and ml of it that lie outside."""
    if brain is not None:
        mask = brain.on(grid)
        index = grid.to_index(brain.grid.to_world(np.argwhere(brain.array)))
        out = ((index < -0.5) | (index > np.array(grid.shape) - 0.5)).any(axis=1)
        return mask, float(out.sum() * brain.grid.voxel_volume / 1000)
    mask = np.zeros(grid.shape, bool)
    for name, volume in volumes.items():
        there = foreground(volume.array, levels[name], f"sequence {name}").astype(np.float32)
        mask |= resample(there, volume.grid, grid, order=1) > 0.5
    return mask, 0.0


def _image(
    volume: Volume, background: float, brain: BrainMask | None, cut: np.ndarray | None, grid: Grid
) -> np.ndarray:
    """(I, J, K) float32 of a sequence: cut to a brain, or a face cut off, or as it is where there is none."""
    shown = resample_smoothed(volume, grid, background)
    if brain is None:
        return shown
    if cut is None:
        return brain.cut_out(Volume(shown, grid)).array
    return np.where(cut, np.float32(min(background, 0.0)), shown)
