"""One way from the sequences of a study to what the network sees; pretext, training, validation and serving
all pass here.

The network's grid is an RAS lattice of the card's spacing in world space, cropped to the head, so it does not
depend on how the study is stored nor on which sequence the reader looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from slem_app.errors import BadGrid, BadStudy
from slem_app.result_warning import ResultWarning
from slem_app.types import Grid
from slem_app.volumes.brain import BrainMask
from slem_app.volumes.coverage import compare, cut, twins
from slem_app.volumes.geometry import bounding_box, check_grid, lattice, overlap
from slem_app.volumes.levels import Levels, Volume, check_modality, foreground
from slem_app.volumes.misregistration import displacement
from slem_app.volumes.report import PreparationReport
from slem_app.volumes.smoothed import resample_smoothed, smoothing
from slem_app.volumes.sources import Scale, Sources
from slem_app.volumes.upright import turned

__all__ = [
    "CONFORMED",
    "Levels",
    "Preparation",
    "Prepared",
    "Volume",
    "foreground",
    "prepare",
]

CONFORMED = (
    2  # number of the way in which studies are conformed; another one means: prepare cached cases again
)
LEAST_OVERLAP = 0.05  # share of a sequence's field of view that must lie in the reference's


@dataclass(frozen=True)
class Preparation:
    """How the network's input is made; part of the model card."""

    spacing: tuple[float, float, float] = (1.5, 1.5, 1.5)
    """mm of the network's grid along R, A, S."""
    multiple: int = 16
    """Sizes are padded to multiples of this many voxels."""
    margin: float = 4.0
    """mm kept around the foreground."""
    clip: tuple[float, float] = (0.5, 99.5)
    """Percentiles of the foreground to which intensities are clipped before mean and standard deviation are
    taken.
    """
    stripped: bool = True
    """The network learns from images around which all but the organ was cut away (skull-stripped): where it
    was not, a note says so.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "spacing", tuple(float(s) for s in self.spacing))
        object.__setattr__(self, "clip", tuple(float(c) for c in self.clip))
        if (
            len(self.spacing) != 3
            or min(self.spacing) <= 0
            or self.multiple < 1
            or self.margin < 0
            or not 0 <= self.clip[0] < self.clip[1] <= 100
        ):
            raise ValueError(f"impossible preparation {self}")


@dataclass(frozen=True, eq=False)
class Prepared:
    """A study as the network sees it."""

    images: np.ndarray
    """(M, I, J, K) float32: mean 0, sd 1 in each sequence's foreground, 0 outside; a missing sequence's
    channel means nothing.
    """
    present: np.ndarray
    """(M,) bool."""
    sequences: tuple[str, ...]
    """Names of the M slots."""
    grid: Grid
    """The network's grid."""
    reference: Grid
    """The grid that results go to."""
    notes: tuple[str, ...] = ()
    """What was done to the study, in sentences."""
    warnings: tuple[ResultWarning, ...] = ()
    """What a reader must know, e.g. that two sequences look out of register."""
    report: PreparationReport = field(default_factory=PreparationReport)
    """What was done to the study as it was read: moved, cut to the brain."""
    moves: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Sequence -> (4, 4) RAS from the common world, that of `grid`, to the world of that sequence's header;
    only those that were moved.
    """
    sources: Sources | None = None
    """The sequences at their own detail, where they were asked for."""
    brain: BrainMask | None = None
    """Where the brain was found; None where nothing was cut away."""

    def shown_on(self, sequence: str, grid: Grid) -> Prepared:
        """The same for results that belong on an image of the study, as its header has it.

        Where the sequence was moved the network's grid goes the other way, so that results, clicks and the
        image share the image's own world.

        Args:
            sequence: what the image is; one that was not moved, or no sequence, is where the common world is.
            grid: of the image.
        """
        if sequence not in self.moves:
            return replace(self, reference=grid)
        move = self.moves[sequence]
        there = Grid(self.grid.shape, move @ self.grid.affine)
        sources = self.sources and self.sources.moved(move)
        brain = self.brain and self.brain.moved(move)
        return replace(self, reference=grid, grid=there, moves={}, sources=sources, brain=brain)

    def closer(self, grid: Grid) -> Prepared | None:
        """The same at its own detail on a grid, which is where results go, too; None without sources."""
        if self.sources is None:
            return None
        return Prepared(self.sources.on(grid, self.sequences), self.present, self.sequences, grid, grid)

    @property
    def nbytes(self) -> int:
        """Bytes of its arrays."""
        more = [part.nbytes for part in (self.sources, self.brain) if part is not None]
        return self.images.nbytes + sum(more)

    @property
    def used(self) -> tuple[str, ...]:
        """Names of the sequences that are there."""
        return tuple(s for s, here in zip(self.sequences, self.present, strict=True) if here)

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of the sequences that are not."""
        return tuple(s for s, here in zip(self.sequences, self.present, strict=True) if not here)


def prepare(
    volumes: Mapping[str, Volume],
    sequences: Sequence[str],
    settings: Preparation,
    reference: Grid | None = None,
    fixed: str | None = None,
    conformed: Literal["auto", "register", "none"] = "auto",
    detailed: bool = False,
    brain: BrainMask | None = None,
) -> Prepared:
    """Bring the sequences of one study onto the network's grid.

    Sequences of whole heads are registered onto `fixed`, and all but the brain is cut away, where the network
    learnt from stripped images; stripped ones are registered where they fit clearly better elsewhere.

    Args:
        volumes: by sequence name; those that `sequences` lacks are ignored.
        sequences: the network's slots in order; some may be missing.
        settings: the card's preparation.
        reference: grid for results; None takes that of the first sequence there is.
        fixed: the sequence that stays where others are moved; None: the first there is.
        conformed: 'auto', as told above; 'register': every other sequence is registered; 'none': all
            stays as it was read.
        detailed: keep the sequences at their own detail, too: `Prepared.sources`.
        brain: the reader's own mask, in the world of `fixed`; in place of the one that is found.

    Raises:
        BadStudy: none of the sequences is there.
        BadGrid: sequences, or a reference, that do not overlap, or a grid that no image can have.
        BadVolume: a sequence with NaN, or without any foreground, a CT, or a whole head without a brain.
    """
    here = [s for s in sequences if s in volumes]
    if not here:
        raise BadStudy(
            f"none of the sequences {', '.join(sequences)} is in this study (it has "
            f"{', '.join(volumes) or 'none'})"
        )
    given = {name: volumes[name] for name in here}
    _check_grids(given, reference)
    for name, volume in given.items():
        check_modality(name, volume)
    levels = {name: Levels.of(volumes[name].array, f"sequence {name}") for name in here}
    kept = fixed if fixed in given else here[0]
    others = frozenset(here) - {kept}
    heads = settings.stripped and any(level.head is not None for level in levels.values())
    target = reference or given[here[0]].grid
    if conformed == "register" or (conformed == "auto" and (heads or brain is not None)):
        wanted = others if conformed == "register" else frozenset()
        return _conformed(given, levels, sequences, settings, target, kept, wanted, detailed, brain)
    made, found = _laid(given, levels, sequences, settings, target, detailed)
    if found and settings.stripped and conformed == "auto":
        wanted = others if kept in found else frozenset(found)
        return _conformed(given, levels, sequences, settings, target, kept, wanted, detailed)
    return made


def _conformed(
    volumes: Mapping[str, Volume],
    levels: Mapping[str, Levels],
    sequences: Sequence[str],
    settings: Preparation,
    reference: Grid,
    fixed: str,
    wanted: frozenset[str],
    detailed: bool,
    brain: BrainMask | None = None,
) -> Prepared:
    """The study with its sequences moved onto each other and, where a network needs it, cut to the brain."""
    # takes a second to import, and a training server with a filled cache does without SimpleITK
    from slem_app.volumes.conform import conform

    done = conform(volumes, levels, fixed, wanted, settings.stripped, brain)
    now = {
        name: Levels.of(volume.array, f"sequence {name}")
        if volume.array is not volumes[name].array
        else levels[name]
        for name, volume in done.volumes.items()
    }
    made, _ = _laid(done.volumes, now, sequences, settings, reference, detailed)
    return replace(
        made,
        report=done.report,
        moves=done.moves,
        notes=done.report.notes(),
        warnings=(*done.report.warnings(), *made.warnings),
        brain=done.brain,
    )


def _laid(
    volumes: Mapping[str, Volume],
    levels: Mapping[str, Levels],
    sequences: Sequence[str],
    settings: Preparation,
    reference: Grid,
    detailed: bool,
) -> tuple[Prepared, dict[str, tuple[float, str]]]:
    """The sequences on the network's grid as they are, and those that seem displaced: (mm, against which)."""
    here = list(volumes)
    full = lattice([volume.grid for volume in volumes.values()], settings.spacing)
    parts = {name: _content(volumes[name], levels[name], full) for name in here}
    images = {name: resample_smoothed(parts[name], full, levels[name].background) for name in here}
    masks = {name: foreground(images[name], levels[name], f"sequence {name}") for name in here}
    warnings = compare(masks)
    mask = np.logical_or.reduce(list(masks.values()))
    start, shape = _crop(mask, settings)
    scales = {name: Scale.of(images[name][masks[name]], settings.clip) for name in here}
    stacked = np.zeros((len(sequences), *shape), dtype=np.float32)
    for slot, name in enumerate(sequences):
        if name in images:
            stacked[slot] = _box(_scaled(images[name], masks[name], scales[name]), start, shape)
    slots = dict(zip(sequences, stacked, strict=True))
    shown = {name: slots[name] for name in here}
    found = displacement(shown, settings.spacing)
    if settings.stripped:
        heads = _unstripped(levels)
        # skulls, and brains that lie elsewhere, would look cut
        whole = not (heads or found or warnings)
        upright = () if heads else turned(mask, full)
        warnings = (*heads, *warnings, *(cut(masks) if whole else ()), *upright)
    made = Prepared(
        images=stacked,
        present=np.array([name in images for name in sequences]),
        sequences=tuple(sequences),
        grid=full.crop(start, shape),
        reference=reference,
        warnings=(*twins(shown), *warnings, *_displaced(found)),
        sources=Sources.of(parts, levels, scales, mask, full) if detailed else None,
    )
    return made, found


def _scaled(image: np.ndarray, mask: np.ndarray, scale: Scale) -> np.ndarray:
    """(I, J, K) float32 as the network takes it, 0 outside the mask: a truncated field of view shifts
    nothing.
    """
    result = np.zeros(image.shape, dtype=np.float32)
    result[mask] = scale(image[mask])
    return result


def _content(volume: Volume, levels: Levels, target: Grid) -> Volume:
    """A skull-stripped volume without its empty borders, but what smoothing for `target` needs of them; any
    other as it is.
    """
    if levels.head is not None:
        return volume
    margin = np.ceil(4 * smoothing(volume.grid, target)).astype(int) + 1
    there = bounding_box(volume.array != levels.background)
    start = [max(0, s.start - m) for s, m in zip(there, margin, strict=True)]
    stop = [min(n, s.stop + m) for s, m, n in zip(there, margin, volume.array.shape, strict=True)]
    box = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
    return Volume(
        volume.array[box],
        volume.grid.crop(tuple(start), tuple(b - a for a, b in zip(start, stop, strict=True))),
    )


def _crop(mask: np.ndarray, settings: Preparation) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Start and size of the box around `mask`: margin kept, size a multiple, centred."""
    starts, sizes = [], []
    for there, step in zip(bounding_box(mask), settings.spacing, strict=True):
        margin = int(np.ceil(settings.margin / step))
        low, high = there.start - margin, there.stop + margin
        size = -(-(high - low) // settings.multiple) * settings.multiple
        starts.append(low - (size - (high - low)) // 2)
        sizes.append(size)
    return tuple(starts), tuple(sizes)


def _box(array: np.ndarray, start: tuple[int, int, int], shape: tuple[int, int, int]) -> np.ndarray:
    """The box of `shape` at `start`, zero where it leaves `array`."""
    result = np.zeros(shape, dtype=array.dtype)
    into = tuple(
        slice(max(0, -s), min(n, size - s)) for s, n, size in zip(start, shape, array.shape, strict=True)
    )
    origin = tuple(
        slice(max(0, s), min(size, s + n)) for s, n, size in zip(start, shape, array.shape, strict=True)
    )
    result[into] = array[origin]
    return result


def _check_grids(volumes: Mapping[str, Volume], reference: Grid | None) -> None:
    """Refuse grids that no image can have, and those that do not overlap."""
    grids = {f"sequence {name}": volume.grid for name, volume in volumes.items()} | (
        {"the reference": reference} if reference else {}
    )
    for what, grid in grids.items():
        check_grid(grid, what)
    _check_overlap(grids)


def _check_overlap(grids: Mapping[str, Grid]) -> None:
    first, *others = grids
    for name in others:
        share = max(overlap(grids[name], grids[first]), overlap(grids[first], grids[name]))
        if share < LEAST_OVERLAP:
            raise BadGrid(
                f"{first} and {name} do not overlap in space ({share:.0%} of the smaller field of view): "
                "they are of different positions or patients; take them out, or register them first "
                "(--register)"
            )


def _unstripped(levels: Mapping[str, Levels]) -> tuple[ResultWarning, ...]:
    heads = [name for name, level in levels.items() if level.head is not None]
    text = (
        f"{', '.join(heads)}: not skull-stripped; a model trained on skull-stripped brains may mark "
        f"skull and skin"
    )
    return (ResultWarning("not-stripped", text),) if heads else ()


def _displaced(found: Mapping[str, tuple[float, str]]) -> tuple[ResultWarning, ...]:
    text = (
        "{} seems displaced against {} by some {:.0f} mm: did the patient move between them? "
        "--register may help"
    )
    return tuple(
        ResultWarning("sequence-displaced", text.format(name, first, mm))
        for name, (mm, first) in found.items()
    )
