"""What is drawn in a slice, as voxels: a scribble is a line with a width, a lasso the inside of an outline.

Points are (n, 3), RAS mm, matrices 4x4, voxel indices (i, j, k) to RAS mm, shapes (I, J, K). A stroke is told
to the server as runs [i, j, k, n]: n voxels along I from (i, j, k) on.
"""

from __future__ import annotations

import numpy as np

__all__ = ["closed", "inside", "line", "runs", "voxel"]

GAP = 4.0  # mm between the ends of a scribble that still meet
ROUND = 0.2  # least share of a circle's area with the same way around: a line there and back encloses little


def voxel(point: np.ndarray, matrix: np.ndarray, shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """The voxel that holds a point; None: it lies outside the image."""
    index = np.floor(_indices(np.reshape(point, (1, 3)), matrix)[0] + 0.5).astype(int)
    if (index < 0).any() or (index >= shape).any():
        return None
    return int(index[0]), int(index[1]), int(index[2])


def line(points: np.ndarray, width: float, matrix: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The voxels of a scribble.

    Args:
        points: along which the mouse went.
        width: mm; voxels whose centres are nearer than half of it to the line belong to it, and in any case
            those that the line goes through.
        matrix: of the image.
        shape: of the image.

    Returns:
        (n, 3) indices inside the image, each once.
    """
    points = np.asarray(points, float)
    step = 0.5 * np.linalg.norm(matrix[:3, :3], axis=0).min()
    ends = list(zip(points[:-1], points[1:])) or [(points[0], points[0])]
    dense = [np.linspace(start, end, 2 + int(np.linalg.norm(end - start) / step)) for start, end in ends]
    path = np.concatenate(dense)
    through = np.floor(_indices(path, matrix) + 0.5).astype(int)
    near = _near(path, 0.5 * width, matrix)
    return _within(np.unique(np.concatenate([through, near]), axis=0), shape)


def closed(points: np.ndarray) -> bool:
    """Whether a scribble goes around something: its ends meet, and it is no line there and back."""
    points = np.asarray(points, float)
    if len(points) < 3:
        return False
    gap = np.linalg.norm(points[-1] - points[0])
    way = np.linalg.norm(np.diff(points, axis=0), axis=1).sum()
    spokes = points - points[0]
    area = 0.5 * np.linalg.norm(np.cross(spokes[:-1], spokes[1:]).sum(axis=0))
    return bool(gap <= min(GAP, way / 4) and area >= ROUND * (way + gap) ** 2 / (4 * np.pi))


def inside(points: np.ndarray, matrix: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """The voxels inside an outline that was drawn in one plane: those whose centres lie within half a voxel
    of the plane, and inside by the even-odd rule.

    Returns:
        (n, 3) indices inside the image, each once; none where the outline holds no voxel.
    """
    points = np.asarray(points, float)
    if len(points) < 3:
        return np.zeros((0, 3), int)
    middle = points.mean(0)
    across, along, normal = np.linalg.svd(points - middle, full_matrices=True)[2]
    reach = 0.5 * np.abs(matrix[:3, :3].T @ normal).max()  # half the distance of layers along the normal
    box = _box(points, matrix, shape)
    centres = _world(box, matrix) - middle
    flat = np.stack([(points - middle) @ across, (points - middle) @ along], axis=1)
    spots = np.stack([centres @ across, centres @ along], axis=1)
    kept = (np.abs(centres @ normal) <= reach + 1e-6) & _even_odd(spots, flat)
    return box[kept]


def runs(voxels: np.ndarray) -> list[list[int]]:
    """(n, 3) indices as runs along I."""
    order = voxels[np.lexsort((voxels[:, 0], voxels[:, 1], voxels[:, 2]))]
    if not len(order):
        return []
    new = np.ones(len(order), bool)
    new[1:] = (np.diff(order, axis=0) != (1, 0, 0)).any(axis=1)
    starts = np.flatnonzero(new)
    counts = np.diff([*starts, len(order)])
    return [[*map(int, order[start]), int(count)] for start, count in zip(starts, counts)]


def _indices(points: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    inverse = np.linalg.inv(matrix)
    return points @ inverse[:3, :3].T + inverse[:3, 3]


def _world(indices: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    return indices @ matrix[:3, :3].T + matrix[:3, 3]


def _within(indices: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    return indices[((indices >= 0) & (indices < shape)).all(axis=1)]


def _near(path: np.ndarray, radius: float, matrix: np.ndarray) -> np.ndarray:
    """The voxels whose centres are within a radius of one of the points."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    reach = np.floor(radius / spacing).astype(int) + 1
    around = np.indices(2 * reach + 1).reshape(3, -1).T - reach
    middle = np.floor(_indices(path, matrix) + 0.5).astype(int)
    candidates = (middle[:, None] + around).reshape(-1, 3)
    away = _world(candidates, matrix) - np.repeat(path, len(around), axis=0)
    return np.unique(candidates[(away**2).sum(axis=1) <= radius**2], axis=0)


def _box(points: np.ndarray, matrix: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """All voxels of the box around some points."""
    indices = _indices(points, matrix)
    low = np.maximum(np.floor(indices.min(0)).astype(int) - 1, 0)
    high = np.minimum(np.ceil(indices.max(0)).astype(int) + 2, shape)
    return np.indices(np.maximum(high - low, 0)).reshape(3, -1).T + low


def _even_odd(spots: np.ndarray, outline: np.ndarray) -> np.ndarray:
    """Whether points in a plane lie inside a closed outline."""
    found = np.zeros(len(spots), bool)
    for start, end in zip(outline, np.roll(outline, -1, axis=0)):
        if start[1] == end[1]:
            continue
        crosses = (spots[:, 1] < start[1]) != (spots[:, 1] < end[1])
        at = start[0] + (spots[:, 1] - start[1]) * (end[0] - start[0]) / (end[1] - start[1])
        found ^= crosses & (spots[:, 0] < at)
    return found
