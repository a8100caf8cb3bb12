"""Resampling between grids, by their affines alone. Numpy and scipy only, since the results' side of the
house has no torch.

Where two grids share their axes (up to order and direction) an array is resampled axis by axis, which is
exact on a shared lattice and fast; any other pair goes through scipy's affine transform.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from slem_app.errors import BadGrid
from slem_app.preemption import yield_point
from slem_app.types import Grid, triple

__all__ = ["bounding_box", "check_grid", "cropped", "lattice", "overlap", "resample", "squared_distance"]

# cosine between two voxel axes above which a grid counts as sheared (1.1 degrees: rounding of headers stays
# far below)
SHEAR_LIMIT = 0.02
LARGEST = 2**27  # voxels of a lattice: 0.5 GB a sequence, a cube of 77 cm at 1.5 mm
ALIGNED = (
    1e-3  # voxels by which an index may be off at the far end for two grids to count as sharing their axes
)


def check_grid(grid: Grid, what: str) -> None:
    """Refuse a grid that no image can have.

    Args:
        grid: grid of a file.
        what: how to name it in the error.

    Raises:
        BadGrid: an affine that is not finite, has a zero axis, or axes that are not at right angles.
    """
    matrix = grid.affine[:3, :3]
    if not np.isfinite(grid.affine).all():
        raise BadGrid(
            f"{what}: its affine holds values that are not finite: export the image again with a valid header"
        )
    if (grid.spacing < 1e-4).any() or abs(np.linalg.det(matrix)) < 1e-9:
        raise BadGrid(
            f"{what}: its affine has a zero axis (spacing {np.round(grid.spacing, 4).tolist()} mm): "
            f"export the image again with a valid header"
        )
    cosine = np.abs(grid.axes.T @ grid.axes - np.eye(3)).max()
    if cosine > SHEAR_LIMIT:
        raise BadGrid(
            f"{what}: its axes are sheared (largest cosine between two axes {cosine:.3f}, at most "
            f"{SHEAR_LIMIT} is read): resample it to a rectangular grid first (gantry tilt, or an affine "
            "registration written into the header)"
        )


def resample(array: np.ndarray, source: Grid, target: Grid, order: int, fill: float = 0.0) -> np.ndarray:
    """Values of `array` at the voxel centres of another grid.

    Args:
        array: (I, J, K) on `source`.
        source: grid of `array`.
        target: grid of the result.
        order: 0 nearest (labels), 1 linear (intensities, probabilities).
        fill: value outside `source`.

    Returns:
        (I', J', K') on `target`, of the input's type for order 0, else float32.
    """
    yield_point()
    array = np.asarray(array) if order == 0 else np.asarray(array, dtype=np.float32)
    matrix = source.inverse @ target.affine  # target index -> source index
    sources = _shared_axes(matrix, target.shape)
    if sources is None:
        result = ndimage.affine_transform(
            array, matrix[:3, :3], matrix[:3, 3], target.shape, order=order, mode="nearest"
        )
        result[_outside(matrix, source.shape, target.shape)] = fill
        return result
    result = array.transpose(sources)  # its axes now run in the target's order
    stored = np.argsort([-abs(stride) for stride in result.strides], kind="stable")
    # slowest axis first: numpy would copy a NIfTI's Fortran order at every step
    result = result.transpose(stored)
    for place, axis in enumerate(stored):
        along = sources[axis]
        positions = matrix[along, axis] * np.arange(target.shape[axis]) + matrix[along, 3]
        result = _along(result, place, positions, order, fill)
    return np.ascontiguousarray(result.transpose(np.argsort(stored)))


def bounding_box(labels: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box of an (I, J, K) array outside which all is zero; empty if all is. Much faster than
    looking for each value on its own.
    """
    stored = np.argsort([-abs(stride) for stride in labels.strides], kind="stable")
    whole = labels.transpose(stored)  # slowest axis first
    slabs = _ends(np.asarray(np.any(whole, axis=(1, 2))))
    flat: np.ndarray = np.asarray(np.any(whole[slabs], axis=0))
    box = np.array(
        [slabs, _ends(np.asarray(np.any(flat, axis=1))), _ends(np.asarray(np.any(flat, axis=0)))],
        dtype=object,
    )
    return tuple(box[np.argsort(stored)])


def cropped(labels: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """A label map cut to the box of its labels, and where that lies; the first voxel where there are none.

    Example:
        >>> cropped(np.eye(3)[:, :, None] == 1, Grid((3, 3, 1), np.eye(4)))[1].shape
        (3, 3, 1)
    """
    box = bounding_box(labels) if labels.any() else (slice(0, 1),) * 3
    start = triple(part.start for part in box)
    return labels[box], grid.crop(start, triple(part.stop - part.start for part in box))


def _ends(there: np.ndarray) -> slice:
    """From the first that is there to the last."""
    found = np.flatnonzero(there)
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def _outside(matrix: np.ndarray, source: tuple[int, int, int], target: tuple[int, int, int]) -> np.ndarray:
    """(I, J, K) bool, target voxels whose centre lies in no source voxel; scipy would cut half a voxel
    earlier, half a thick slice.
    """
    i, j, k = np.ogrid[tuple(slice(n) for n in target)]
    result = np.zeros(target, dtype=bool)
    for row, size in zip(matrix[:3], source, strict=True):
        position = (row[0] * i + row[1] * j + row[3]) + row[2] * k
        result |= (position < -0.5) | (position > size - 0.5)
    return result


def _shared_axes(matrix: np.ndarray, shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """For each target axis the source axis it runs along, or None if the grids are oblique to each other."""
    reach = np.abs(matrix[:3, :3]) * (np.array(shape) - 1)  # source voxels passed along each target axis
    main = np.abs(matrix[:3, :3]).argmax(axis=0)
    reach[main, range(3)] = 0
    return triple(int(a) for a in main) if len(set(main)) == 3 and reach.max() <= ALIGNED else None


def _along(array: np.ndarray, axis: int, positions: np.ndarray, order: int, fill: float) -> np.ndarray:
    """Sample `array` at fractional `positions` of one axis."""
    last = array.shape[axis] - 1
    outside = (positions < -0.5) | (positions > last + 0.5)
    shape = [1, 1, 1]
    shape[axis] = len(positions)
    # as scipy does; numpy would round halves to even, by turns up and down
    rounded = np.floor(positions + 0.5)
    if order == 0 or np.abs(positions - rounded).max() < ALIGNED:
        result = array.take(np.clip(rounded, 0, last).astype(np.intp), axis=axis)
    else:
        inside = np.clip(positions, 0, last)
        low = np.minimum(inside.astype(np.intp), max(last - 1, 0))
        weight = (inside - low).astype(np.float32).reshape(shape)
        result = array.take(low, axis=axis)
        result += weight * (array.take(np.minimum(low + 1, last), axis=axis) - result)
    if outside.any():
        result = np.where(outside.reshape(shape), np.asarray(fill, dtype=result.dtype), result)
    return result


def lattice(grids: list[Grid], spacing: tuple[float, float, float]) -> Grid:
    """The RAS grid of `spacing` mm, on whole multiples of it in the world, that covers every grid.

    It depends on where the voxels lie, not on how they are stored: the same study stored LPS or sagittal
    gives the same lattice.

    Raises:
        BadGrid: a field of view too large for an image of the body.
    """
    step = np.array(spacing, dtype=np.float64)
    corners = np.concatenate([grid.corners() for grid in grids])
    low = np.floor(corners.min(axis=0) / step + 1e-6)
    high = np.ceil(corners.max(axis=0) / step - 1e-6)
    shape = high - low + 1
    if shape.prod() > LARGEST:
        raise BadGrid(
            f"the images span {' x '.join(f'{n:.0f}' for n in shape * step)} mm, too much for a grid of "
            f"{' x '.join(f'{n:g}' for n in step)} mm: "
            "are their headers in millimetres, and are all sequences of one examination?"
        )
    affine = np.diag([*step, 1.0])
    affine[:3, 3] = low * step
    return Grid(tuple(shape.astype(int)), affine)


def overlap(a: Grid, b: Grid, samples: int = 16) -> float:
    """Share of the volume of `a` that lies inside `b`, on `samples` points an axis."""
    steps = [(np.arange(samples) + 0.5) / samples * n - 0.5 for n in a.shape]
    points = np.stack(np.meshgrid(*steps, indexing="ij"), axis=-1)
    index = b.to_index(a.to_world(points))
    return float(((index >= -0.5) & (index <= np.array(b.shape) - 0.5)).all(axis=-1).mean())


def squared_distance(grid: Grid, world: np.ndarray) -> np.ndarray:
    """(I, J, K) mm2 from every voxel of `grid` to the point `world`, without an array of coordinates."""
    axes, place = grid.affine[:3, :3], grid.to_index(world)
    steps = [
        (np.arange(n) - p).reshape([-1 if a == b else 1 for b in range(3)])
        for a, (n, p) in enumerate(zip(grid.shape, place))
    ]
    square = axes.T @ axes
    if (
        np.abs(square - np.diag(np.diag(square))).max() <= 1e-6 * square.max()
    ):  # axes at right angles: each adds its part
        lines = [(step**2 * square[a, a]).astype(np.float32) for a, step in enumerate(steps)]
        return lines[0] + lines[1] + lines[2]
    return sum(sum(axes[w, a] * steps[a] for a in range(3)) ** 2 for w in range(3)).astype(np.float32)
