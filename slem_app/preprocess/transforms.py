"""A rigid move as an ITK transform file, which ITK, ANTs and 3D Slicer read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from slem_app.files import atomic_file

__all__ = ["EXPLAINED", "itk_text", "write_transform"]

TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
EXPLAINED = """Each file X_to_REF.tfm is an ITK transform in LPS millimetres. As ITK has it, it takes a point
of the reference's world to the same place in the world of the header of sequence X: what a resampling of X
onto the reference needs, e.g. SimpleITK.Resample(X, REF, SimpleITK.ReadTransform(file)). Applied to X in 3D
Slicer it lays X on the reference. A sequence that lies on the reference by its header alone has the identity.
"""


def itk_text(matrix: np.ndarray) -> str:
    """The text of the file.

    Args:
        matrix: (4, 4) RAS mm, from the reference's world to the sequence's.
    """
    lps = TO_LPS @ matrix @ TO_LPS
    numbers = " ".join(f"{value:.12g}" for value in (*lps[:3, :3].ravel(), *lps[:3, 3]))
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers}\nFixedParameters: 0 0 0\n"
    )


def write_transform(matrix: np.ndarray, path: Path) -> None:
    """Write it, whole or not at all.

    Raises:
        StorageFailed: the disk refused.
    """
    with atomic_file(path) as file:
        file.write(itk_text(matrix).encode())
