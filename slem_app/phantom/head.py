"""A head with a tumour in four sequences, with the truth: the demo study and the cases of the tests.

The head is a function of world millimetres: the same seed, shape and spacing give the same head on every grid
(oblique, anisotropic, reoriented), so results on different grids can be compared. Random numbers are drawn in
`draw` and `_noise`, applied in `_anatomy` and `_signal`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slem_app.types import Grid, triple

__all__ = [
    "SEQUENCES",
    "Head",
    "Phantom",
    "Waves",
    "draw",
    "lps_grid",
    "make",
    "render",
    "reorient",
    "reorient_phantom",
    "rotation",
    "truth",
    "waves",
]

SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
TISSUES = ("white", "grey", "csf", "necrosis", "edema", "enhancing")
NECROSIS, EDEMA, ENHANCING = 1, 2, 3

CONTRAST = {  # signal relative to white matter on T1, in the order of TISSUES
    "t1n": (1.00, 0.74, 0.30, 0.42, 0.62, 0.68),
    "t1c": (1.02, 0.78, 0.32, 0.40, 0.66, 1.60),
    "t2w": (0.55, 0.75, 1.55, 1.45, 1.15, 0.95),
    "t2f": (0.60, 0.76, 0.22, 0.70, 1.35, 1.10),
}
AXES = np.array([66.0, 82.0, 58.0])  # half-axes of the brain along R, A, S in mm, at scale 1


@dataclass(frozen=True, eq=False)
class Waves:
    """A smooth random field: a sum of plane waves, about standard normal at every point."""

    vectors: np.ndarray
    """(W, 3) wave vectors, radians per mm of the head."""
    phases: np.ndarray
    """(W,) radians."""

    def on(self, affine: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """(I, J, K) float32 values where `affine` takes voxel indices to mm of the head.

        A plane wave on a lattice is separable, cos(a + b) = cos a cos b - sin a sin b, so that the sum is one
        matrix product.
        """
        step = self.vectors @ affine[:3, :3]
        start = self.vectors @ affine[:3, 3] + self.phases
        i, j, k = (np.arange(n) for n in shape)
        # (W, I, J)
        plane = start[:, None, None] + step[:, 0, None, None] * i[:, None] + step[:, 1, None, None] * j
        line = step[:, 2, None] * k  # (W, K)
        left = np.concatenate([np.cos(plane), -np.sin(plane)]).astype(np.float32).reshape(2 * len(start), -1)
        right = np.concatenate([np.cos(line), np.sin(line)]).astype(np.float32)
        return (left.T @ right).reshape(shape) * np.float32(np.sqrt(2 / len(start)))


@dataclass(frozen=True, eq=False)
class Head:
    """Everything that was drawn for one head; lengths in mm of the head at scale 1."""

    seed: int
    """What it was drawn from; also seeds the noise."""
    pose: np.ndarray
    """(4, 4) world RAS mm to mm of the head."""
    folds: Waves
    """Sulci and the winding border of grey and white matter."""
    wobble: Waves
    """Irregular border of the tumour."""
    spread: Waves
    """Irregular extent of the edema."""
    ventricle: float
    """Relative size of the ventricles."""
    centre: np.ndarray
    """(3,) middle of the tumour."""
    radii: tuple[float, float, float]
    """Outer radius of necrosis, of the rim and of the edema."""
    gain: Mapping[str, float]
    """Scanner units of white matter on T1, a sequence."""
    bias: Mapping[str, Waves]
    """Receive field, a sequence."""
    noise: float
    """Standard deviation relative to white matter on T1."""
    others: tuple[tuple[np.ndarray, tuple[float, float, float]], ...] = ()
    """Further tumours: middle and radii of each, as of the first."""


@dataclass(frozen=True, eq=False)
class Phantom:
    """One case with its truth."""

    images: dict[str, np.ndarray]
    """Sequence -> (I, J, K) float32, zero outside the brain."""
    labels: np.ndarray
    """(I, J, K) uint8 on `grid`: 1 necrosis, 2 edema, 3 enhancing tumor."""
    grid: Grid
    """Grid of the labels and of t1c."""
    grids: dict[str, Grid]
    """Sequence -> its grid."""
    head: Head
    """What was drawn."""
    examination = "MR BRAIN WITH AND WITHOUT CONTRAST"
    part = "BRAIN"

    @property
    def seed(self) -> int:
        """What it was drawn from."""
        return self.head.seed


def waves(rng: np.random.Generator, count: int, shortest: float, longest: float) -> Waves:
    """Draw a field of `count` waves whose lengths in mm lie between two."""
    direction = rng.standard_normal((count, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    return Waves(
        direction * (2 * np.pi / rng.uniform(shortest, longest, (count, 1))), rng.uniform(0, 2 * np.pi, count)
    )


def rotation(degrees: np.ndarray) -> np.ndarray:
    """(3, 3) rotation about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        turn, (a, b) = np.eye(3), [n for n in range(3) if n != axis]
        turn[a, a] = turn[b, b] = np.cos(angle)
        turn[a, b], turn[b, a] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def draw(seed: int, scale: float = 1.0) -> Head:
    """Draw a head of relative size `scale` (1: brain of 132 x 164 x 116 mm) near the world's origin."""
    rng = np.random.default_rng(seed)
    pose = np.eye(4)
    pose[:3, :3] = rotation(rng.uniform(-6, 6, 3)) / scale
    pose[:3, 3] = rng.uniform(-3, 3, 3)
    rim = rng.uniform(13, 20)
    side = rng.choice([-1.0, 1.0])
    return Head(
        seed=seed,
        pose=pose,
        folds=waves(rng, 40, 14, 30),
        wobble=waves(rng, 16, 18, 45),
        spread=waves(rng, 16, 20, 50),
        ventricle=rng.uniform(0.8, 1.25),
        centre=np.array([side * rng.uniform(26, 36), rng.uniform(-36, 32), rng.uniform(-8, 24)]),
        radii=(rim - rng.uniform(4.0, 6.5), rim, rim + rng.uniform(9, 16)),
        gain={name: float(rng.uniform(200, 1200)) for name in SEQUENCES},
        bias={name: waves(rng, 4, 160, 320) for name in SEQUENCES},
        noise=rng.uniform(0.02, 0.045),
    )


def _soft(level: np.ndarray, width: float) -> np.ndarray:
    """0 below zero, 1 above, a slope of `width` between."""
    return np.clip(level * np.float32(1 / width) + np.float32(0.5), 0, 1)


def _ellipsoid(axes: Sequence[np.ndarray], centre: np.ndarray, half: np.ndarray) -> np.ndarray:
    """1 in the middle, 0 on the surface, negative outside."""
    squares = [((x - np.float32(c)) / np.float32(h)) ** 2 for x, c, h in zip(axes, centre, half)]
    return 1 - np.sqrt(squares[0] + squares[1] + squares[2])


def _anatomy(head: Head, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Brain mask (bool), share of each tissue (6, I, J, K) float32 without regard to the mask, labels
    (uint8).
    """
    affine = head.pose @ grid.affine
    index = np.ogrid[tuple(slice(n) for n in grid.shape)]
    x, y, z = axes = triple(
        np.asarray(sum(np.float32(affine[w, a]) * index[a].astype(np.float32) for a in range(3)))
        + np.float32(affine[w, 3])
        for w in range(3)
    )
    folds = head.folds.on(affine, grid.shape)
    depth = _ellipsoid(axes, np.zeros(3), AXES)  # 0 on the surface of the brain
    brain = depth + 0.008 * folds > 0
    grey = _soft(0.13 + 0.05 * folds - depth, 0.03)
    csf = _soft(0.055 - depth - 0.05 * np.abs(folds), 0.02)
    # fissure between the hemispheres
    csf = np.maximum(csf, _soft(1.4 - np.abs(x), 1.0) * _soft(0.45 - depth, 0.1))
    for side in (-1, 1):
        nucleus = _ellipsoid(axes, np.array([side * 22, 2, -4]), np.array([10, 18, 12]))
        grey = np.maximum(grey, _soft(nucleus, 0.15))
        ventricle = _ellipsoid(
            (x - side * 0.12 * y, y, z),
            np.array([side * 11, -4, 10]),
            head.ventricle * np.array([5.5, 27, 9]),
        )
        csf = np.maximum(csf, _soft(ventricle, 0.25))
    wobble, spread = (
        1 + 0.07 * head.wobble.on(affine, grid.shape),
        1 + 0.13 * head.spread.on(affine, grid.shape),
    )
    labels = np.zeros(grid.shape, np.uint8)
    for centre, (inner, rim, outer) in ((head.centre, head.radii), *head.others):
        distance = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (z - centre[2]) ** 2).astype(
            np.float32
        )
        tumour, reach = distance * wobble, distance * spread + 5 * grey + 40 * (csf > 0.5) * (distance > rim)
        # edema keeps to white matter and out of the ventricles
        labels[(reach < outer) & (depth > 0.03) & (labels == 0)] = EDEMA
        labels[tumour < rim] = ENHANCING
        labels[tumour < inner] = NECROSIS
    labels[~brain] = 0
    shares = np.zeros((len(TISSUES), *grid.shape), np.float32)
    shares[0], shares[1], shares[2] = (1 - csf) * (1 - grey), (1 - csf) * grey, csf
    sick = labels > 0
    shares[:3, sick] = 0
    for value, tissue in ((NECROSIS, 3), (EDEMA, 4), (ENHANCING, 5)):
        shares[tissue] = labels == value
    return brain, shares, labels


def truth(head: Head, grid: Grid) -> np.ndarray:
    """(I, J, K) uint8 label map of the head on `grid`: 1 necrosis, 2 edema, 3 enhancing tumor."""
    return _anatomy(head, grid)[2]


def _noise(head: Head, sequence: str, shape: tuple[int, int, int]) -> np.ndarray:
    """(I, J, K) float32 standard normal noise of one sequence."""
    return np.random.default_rng([head.seed, SEQUENCES.index(sequence)]).standard_normal(
        shape, dtype=np.float32
    )


def _signal(
    head: Head, grid: Grid, sequence: str, anatomy: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> np.ndarray:
    brain, shares, _ = anatomy
    affine = head.pose @ grid.affine
    image = np.tensordot(np.array(CONTRAST[sequence], np.float32), shares, 1)
    image *= 1 + 0.05 * head.spread.on(affine, grid.shape) * shares[4]  # edema fades
    image *= 1 + 0.08 * head.bias[sequence].on(affine, grid.shape)
    image += np.float32(head.noise) * _noise(head, sequence, grid.shape)
    image = np.maximum(image, 0.01) * np.float32(head.gain[sequence])
    image[~brain] = 0
    return image


def render(head: Head, grid: Grid, sequence: str) -> np.ndarray:
    """(I, J, K) float32 image of `head` on `grid` in one of the four sequences, zero outside the brain."""
    return _signal(head, grid, sequence, _anatomy(head, grid))


def lps_grid(
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    turn: np.ndarray | None = None,
    shift: tuple[float, float, float] = (0, 0, 0),
) -> Grid:
    """LPS grid around the world's origin, turned by the rotation `turn`."""
    affine = np.eye(4)
    affine[:3, :3] = (np.eye(3) if turn is None else turn) @ np.diag([-1.0, -1.0, 1.0]) @ np.diag(spacing)
    affine[:3, 3] = np.array(shift) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


def _resliced(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], factors: tuple[float, float, float]
) -> tuple[tuple, tuple]:
    """Shape and spacing with the spacing multiplied by `factors` and about the same field of view."""
    return tuple(max(4, round(n / f)) for n, f in zip(shape, factors)), tuple(
        s * f for s, f in zip(spacing, factors)
    )


def _grids(
    shape: tuple[int, int, int], spacing: tuple[float, float, float], turn: np.ndarray, own_grids: bool
) -> dict[str, Grid]:
    """The grid of each sequence: all alike, or as a scanner gives them (3D t1c, thick axial, sagittal and
    tilted stacks).
    """
    reference = lps_grid(shape, spacing, turn)
    if not own_grids:
        return dict.fromkeys(SEQUENCES, reference)
    sagittal = lps_grid(*_resliced(shape, spacing, (3.0, 1.0, 1.0)), turn, (2, -3, 1))
    tilted = turn @ rotation(np.array([9.0, -3.0, 2.0]))
    return {
        "t1n": reorient(np.broadcast_to(np.uint8(0), sagittal.shape), sagittal, "PIL")[1],
        "t1c": reference,
        "t2w": lps_grid(*_resliced(shape, spacing, (0.8, 0.8, 3.0)), tilted, (-1, 2, 2)),
        "t2f": lps_grid(*_resliced(shape, spacing, (1.25, 1.25, 2.5)), tilted, (1, 0, -2)),
    }


def make(
    seed: int = 0,
    shape: tuple[int, int, int] = (160, 192, 144),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    oblique: bool = False,
    anisotropic: bool = False,
    own_grids: bool = False,
    head: Head | None = None,
) -> Phantom:
    """Make a case, stored LPS. The head fills the field of view shape x spacing, so a small shape gives a
    small head, not a cut one.

    Args:
        seed: of head and noise.
        shape: voxels along R-L, A-P and S-I, before `anisotropic`.
        spacing: mm along the same axes.
        oblique: turn the voxel axes against the world by some 10 degrees about each axis.
        anisotropic: slices four times as thick and correspondingly fewer.
        own_grids: each sequence on a grid of its own, as scanners give them; the labels lie on t1c's.
        head: whose; None: drawn from `seed`.

    Example:
        >>> case = make(seed=1, shape=(48, 48, 48))
        >>> sorted(case.images), sorted(set(case.labels.ravel().tolist()))
        (['t1c', 't1n', 't2f', 't2w'], [0, 1, 2, 3])
    """
    field = np.array(shape) * np.array(spacing)
    head = draw(seed, float((field / (AXES * 2 + 16)).min())) if head is None else head
    turn = rotation(np.array([11.0, -8.0, 14.0])) if oblique else np.eye(3)
    if anisotropic:
        shape, spacing = _resliced(shape, spacing, (1.0, 1.0, 4.0))
    grids = _grids(shape, spacing, turn, own_grids)
    anatomies = (
        {id(grid): _anatomy(head, grid) for grid in grids.values()}
        if own_grids
        else {id(grids["t1c"]): _anatomy(head, grids["t1c"])}
    )
    images = {name: _signal(head, grid, name, anatomies[id(grid)]) for name, grid in grids.items()}
    return Phantom(images, anatomies[id(grids["t1c"])][2], grids["t1c"], grids, head)


def reorient(array: np.ndarray, grid: Grid, code: str) -> tuple[np.ndarray, Grid]:
    """Store the same volume with other voxel axes: axes swapped and flipped, no value and no world position
    changed.

    Args:
        array: (I, J, K).
        grid: its grid.
        code: the side each index grows to, e.g. 'LPS', 'RAS', 'PIL' (sagittal stack); on an oblique grid the
            nearest axes count.
    """
    pairs = ["LR", "PA", "IS"]
    here = [next(n for n, pair in enumerate(pairs) if letter in pair) for letter in grid.orientation]
    there = [next(n for n, pair in enumerate(pairs) if letter in pair) for letter in code]
    order = [here.index(world) for world in there]
    affine = grid.affine.copy()
    affine[:3, :3] = grid.affine[:3, order]
    moved = array.transpose(order)
    for axis, source in enumerate(order):
        if grid.orientation[source] != code[axis]:
            affine[:3, 3] += affine[:3, axis] * (moved.shape[axis] - 1)
            affine[:3, axis] *= -1
            moved = np.flip(moved, axis)
    return np.ascontiguousarray(moved), Grid(triple(moved.shape), affine)


def reorient_phantom(phantom: Phantom, code: str) -> Phantom:
    """The same case with every array stored in the orientation `code`."""
    moved = {name: reorient(image, phantom.grids[name], code) for name, image in phantom.images.items()}
    labels, grid = reorient(phantom.labels, phantom.grid, code)
    return Phantom(
        {n: a for n, (a, _) in moved.items()},
        labels,
        grid,
        {n: g for n, (_, g) in moved.items()},
        phantom.head,
    )
