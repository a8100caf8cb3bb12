"""Label maps as files, by SimpleITK, which Slicer's Python has.

Arrays are (K, J, I) uint8, as SimpleITK and Slicer have them. Matrices are 4x4, voxel indices (i, j, k) to
RAS millimetres; the files' LPS exists in here only.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

__all__ = ["flipped", "flips", "read", "write"]

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
CLOSE = 1e-2  # mm between two statements of where a corner lies


def read(content: bytes, ending: str = ".nrrd") -> tuple[np.ndarray, np.ndarray]:
    """A label map and its matrix.

    Args:
        content: of the file.
        ending: which format it has.

    Raises:
        RuntimeError: it cannot be read.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"label{ending}")
        path.write_bytes(content)
        image = sitk.ReadImage(str(path))
    matrix = np.eye(4)
    matrix[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.array(image.GetSpacing())
    matrix[:3, 3] = image.GetOrigin()
    return sitk.GetArrayFromImage(image).astype(np.uint8), LPS @ matrix


def write(array: np.ndarray, matrix: np.ndarray) -> bytes:
    """A label map as compressed NRRD."""
    lps = LPS @ matrix
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=np.uint8))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "label.nrrd")
        # a label map is small however little it is pressed, and a reader waits
        sitk.WriteImage(image, str(path), useCompression=True, compressionLevel=1)
        return path.read_bytes()


def flips(shape: tuple[int, ...], first: np.ndarray, second: np.ndarray) -> tuple[bool, bool, bool] | None:
    """Along which of I, J, K two grids of the same place run against each other; None: they lie at different
    places, by more than a hundredth of a mm.

    Slicer turns left-handed images around along K when it loads them; the server has them as they are stored.

    Args:
        shape: (K, J, I) of both.
        first: matrix of the one.
        second: matrix of the other.
    """
    size = np.array(shape[::-1])
    found = np.diag(np.linalg.inv(second)[:3, :3] @ first[:3, :3]) < 0
    turned = np.eye(4)
    turned[:3, :3] = np.diag(np.where(found, -1.0, 1.0))
    turned[:3, 3] = np.where(found, size - 1, 0)
    choices = np.indices((2, 2, 2)).reshape(3, -1).T * (size - 1)
    corners = np.c_[choices, np.ones(len(choices))].T
    if np.abs(first @ corners - second @ turned @ corners).max() >= CLOSE:
        return None
    return bool(found[0]), bool(found[1]), bool(found[2])


def flipped(array: np.ndarray, along: tuple[bool, bool, bool]) -> np.ndarray:
    """A (K, J, I) array turned around along the named ones of I, J, K."""
    return np.flip(array, [2 - axis for axis, turned in enumerate(along) if turned])
