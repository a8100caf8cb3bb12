"""A trunk with organs, of any region of the body: tables of tissues and organs (`abdomen`, `pelvis`) in,
images with truth out.

Everything is a function of world millimetres (RAS), so the same seed gives the same patient on any grid.
Sequences of one breath-hold are in register; those of another see the organs displaced, each as far as it
moves with the diaphragm, and have a truth of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from slem_app.phantom.head import Waves, rotation, waves
from slem_app.types import Grid

__all__ = [
    "Body",
    "BodyPhantom",
    "BodyPlan",
    "Ellipsoid",
    "Organ",
    "SequenceProtocol",
    "draw_body",
    "image_body",
]

# voxels: what a border's voxel sees of both sides, from which the dark rim of the opposed phase comes
BLUR = 0.55


@dataclass(frozen=True)
class Ellipsoid:
    """One part of an organ; mm in the patient, RAS, at scale 1."""

    centre: tuple[float, float, float]
    """Of it."""
    half: tuple[float, float, float]
    """Half-axes."""
    tilt: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Degrees about R, A, S."""


@dataclass(frozen=True)
class Organ:
    """What is painted: later organs over earlier ones."""

    name: str
    """For people."""
    tissue: str
    """Of the plan's tissues."""
    parts: tuple[Ellipsoid, ...]
    """United."""
    label: str = ""
    """Name of the label that it is, if it is one."""
    moves: float = 1.0
    """Share of the breathing by which it is displaced."""
    wobble: float = 0.05
    """Irregularity of its surface, relative to its size."""
    varies: tuple[float, float] = (6.0, 0.10)
    """Standard deviations between patients: place in mm, size relative."""


@dataclass(frozen=True)
class SequenceProtocol:
    """How one sequence is taken."""

    breath: int
    """Number of the breath-hold; sequences of one are in register and share a grid and a truth."""
    signal: Mapping[str, tuple[float, float]]
    """Tissue -> signal of its water and of its fat."""
    opposed: bool = False
    """Water and fat cancel instead of adding up."""
    resolution: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors on the spacing."""


@dataclass(frozen=True)
class BodyPlan:
    """A region of the body as tables."""

    organs: tuple[Organ, ...]
    """In the order of painting, the trunk first."""
    labels: tuple[str, ...]
    """Names of the labels, value 1 first."""
    protocols: Mapping[str, SequenceProtocol]
    """By sequence."""
    examination: str
    """StudyDescription."""
    part: str
    """BodyPartExamined."""
    extent: tuple[float, float, float]
    """mm along R, A, S of the field of view at scale 1."""
    fatty: str = ""
    """Tissue of which a random share of up to a quarter is fat."""


@dataclass(frozen=True, eq=False)
class Body:
    """Everything that was drawn for one patient."""

    plan: BodyPlan
    """What is in it."""
    seed: int
    """What it was drawn from; also seeds the noise."""
    pose: np.ndarray
    """(4, 4) world RAS mm to mm of the patient at scale 1."""
    shifts: tuple[np.ndarray, ...]
    """For each organ (3,) mm against its place in the plan."""
    sizes: tuple[float, ...]
    """For each organ, relative."""
    wobbles: tuple[Waves, ...]
    """For each organ, its irregular surface."""
    texture: Waves
    """Of all tissues."""
    breaths: tuple[np.ndarray, ...]
    """For each breath-hold (3,) mm by which what moves is displaced."""
    fat: float
    """Share of fat in the plan's fatty tissue."""
    bias: Mapping[str, Waves]
    """Receive field, a sequence."""
    gain: Mapping[str, float]
    """Scanner units, a sequence."""
    ghost: Mapping[str, float]
    """Strength of the ghosts along the phase direction, a sequence."""
    noise: float
    """Standard deviation relative to 1."""


@dataclass(frozen=True, eq=False)
class BodyPhantom:
    """One case with its truths."""

    images: dict[str, np.ndarray]
    """Sequence -> (I, J, K) float32."""
    grids: dict[str, Grid]
    """Sequence -> its grid."""
    truths: dict[str, np.ndarray]
    """Sequence -> (I, J, K) uint8 on its grid, as the organs lay in its breath-hold."""
    body: Body
    """What was drawn."""

    @property
    def first(self) -> str:
        """The sequence whose grid and truth count."""
        return next(iter(self.images))

    @property
    def labels(self) -> np.ndarray:
        """(I, J, K) uint8 on `grid`."""
        return self.truths[self.first]

    @property
    def grid(self) -> Grid:
        """Of the first sequence."""
        return self.grids[self.first]

    @property
    def seed(self) -> int:
        """What it was drawn from."""
        return self.body.seed

    @property
    def examination(self) -> str:
        """StudyDescription."""
        return self.body.plan.examination

    @property
    def part(self) -> str:
        """BodyPartExamined."""
        return self.body.plan.part


def draw_body(
    plan: BodyPlan, seed: int, scale: float = 1.0, breathing: tuple[float, float] = (4.0, 11.0)
) -> Body:
    """Draw a patient of relative size `scale`.

    Args:
        plan: what is in it.
        seed: of everything.
        scale: 1 is an adult.
        breathing: range in mm by which the diaphragm stands elsewhere in the second breath-hold.
    """
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = rotation(rng.uniform(-4, 4, 3)) / scale / rng.uniform(0.92, 1.06)
    pose[:3, 3] = rng.uniform(-6, 6, 3)
    holds = 1 + max(protocol.breath for protocol in plan.protocols.values())
    moved = [
        np.array([rng.uniform(-1, 1), rng.uniform(-2, 2), rng.choice([-1, 1]) * rng.uniform(*breathing)])
        for _ in range(holds - 1)
    ]
    return Body(
        plan=plan,
        seed=seed,
        pose=pose,
        shifts=tuple(rng.normal(0, 1, 3) * organ.varies[0] * (0.7, 0.7, 1.0) for organ in plan.organs),
        sizes=tuple(float(np.clip(rng.normal(1, organ.varies[1]), 0.75, 1.3)) for organ in plan.organs),
        wobbles=tuple(waves(rng, 14, 35, 110) for _ in plan.organs),
        texture=waves(rng, 24, 8, 25),
        breaths=(np.zeros(3), *moved),
        fat=float(rng.uniform(0, 0.25)),
        bias={name: waves(rng, 4, 350, 800) for name in plan.protocols},
        gain={name: float(rng.uniform(200, 900)) for name in plan.protocols},
        ghost={name: float(rng.uniform(0, 0.05)) for name in plan.protocols},
        noise=float(rng.uniform(0.015, 0.04)),
    )


def image_body(body: Body, grids: Mapping[str, Grid]) -> BodyPhantom:
    """Take the images of a patient, one a sequence of `grids`."""
    images, truths = {}, {}
    painted: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}
    for name, grid in grids.items():
        key = (body.plan.protocols[name].breath, id(grid))
        if key not in painted:
            painted[key] = _paint(body, grid, key[0])
        organs, truths[name] = painted[key]
        images[name] = _signal(body, grid, name, organs)
    return BodyPhantom(images, dict(grids), truths, body)


def _paint(body: Body, grid: Grid, breath: int) -> tuple[np.ndarray, np.ndarray]:
    """(I, J, K) uint8 number of the organ (0 air, 1 the first of the plan) and label."""
    affine = body.pose @ grid.affine
    index = np.ogrid[tuple(slice(n) for n in grid.shape)]
    organs = np.zeros(grid.shape, np.uint8)
    labels = np.zeros(grid.shape, np.uint8)
    for number, organ in enumerate(body.plan.organs):
        away = body.shifts[number] + organ.moves * body.breaths[breath]
        axes = [
            np.asarray(sum(np.float32(affine[w, a]) * index[a] for a in range(3)))
            + np.float32(affine[w, 3] - away[w])
            for w in range(3)
        ]
        surface = (
            np.float32(organ.wobble) * body.wobbles[number].on(affine, grid.shape)
            if organ.wobble
            else np.float32(0)
        )
        level = np.maximum.reduce([_level(part, axes, body.sizes[number]) for part in organ.parts])
        inside = level + surface > 0
        if number:
            inside &= organs > 0  # nothing leaves the trunk
        organs[inside] = number + 1
        labels[inside] = body.plan.labels.index(organ.label) + 1 if organ.label else 0
    return organs, labels


def _level(part: Ellipsoid, axes: Sequence[np.ndarray], size: float) -> np.ndarray:
    """1 in the middle, 0 on the surface, negative outside."""
    back = rotation(np.array(part.tilt)).T
    offset = [axis - np.float32(c) for axis, c in zip(axes, part.centre, strict=True)]
    along = [sum(np.float32(back[row, w]) * offset[w] for w in range(3)) for row in range(3)]
    squares = [(value / np.float32(half * size)) ** 2 for value, half in zip(along, part.half, strict=True)]
    return 1 - np.sqrt(squares[0] + squares[1] + squares[2])


def _signal(body: Body, grid: Grid, name: str, organs: np.ndarray) -> np.ndarray:
    """(I, J, K) float32 image of what was painted."""
    plan, protocol = body.plan, body.plan.protocols[name]
    water, fat = np.zeros(len(plan.organs) + 1, np.float32), np.zeros(len(plan.organs) + 1, np.float32)
    for number, organ in enumerate(plan.organs, 1):
        share = body.fat if organ.tissue == plan.fatty else 0.0
        of_fat = protocol.signal["fat"][1]
        w, f = protocol.signal[organ.tissue]
        water[number], fat[number] = w * (1 - share), f + share * of_fat
    rng = np.random.default_rng([body.seed, list(plan.protocols).index(name)])
    parts = [ndimage.gaussian_filter(table[organs], BLUR) for table in (water, fat)]
    image = np.abs(parts[0] - parts[1]) if protocol.opposed else parts[0] + parts[1]
    affine = body.pose @ grid.affine
    image *= 1 + np.float32(0.04) * body.texture.on(affine, grid.shape)
    image *= 1 + np.float32(0.15) * body.bias[name].on(affine, grid.shape)
    image += np.float32(body.ghost[name]) * _ghosts(image, grid)
    noise = rng.standard_normal((2, *grid.shape), dtype=np.float32) * np.float32(body.noise)
    # magnitude of complex noise, Rician
    return np.hypot(image + noise[0], noise[1]) * np.float32(body.gain[name])


def _ghosts(image: np.ndarray, grid: Grid) -> np.ndarray:
    """Copies of the image half and a quarter of the field of view away along the phase direction, A-P: what
    breathing leaves.
    """
    axis = int(np.argmax(np.abs(grid.axes[1])))
    step = image.shape[axis] // 4
    return np.roll(image, step, axis) + np.roll(image, -step, axis) + 0.5 * np.roll(image, 2 * step, axis)
