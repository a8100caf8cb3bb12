"""An image as NIfTI: for clients that open one 3D file, where the source is DICOM or a channel of
a 4D file.
"""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from isal import igzip

from slem_app.errors import BadGrid, BadSetting
from slem_app.files import atomic_file
from slem_app.types import Grid
from slem_app.volumes import geometry

__all__ = ["write_image"]


def write_image(array: np.ndarray, grid: Grid, path: Path) -> Path:
    """Write intensities as float32 NIfTI, whole or not at all.

    Args:
        array: (I, J, K).
        grid: its grid.
        path: ends in .nii or .nii.gz.

    Returns:
        `path`.

    Raises:
        BadSetting: another ending.
        BadGrid: an array of another shape than the grid, or a grid that no image can have.
        StorageFailed: the disk refused.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise BadSetting(f"{path.name}: a NIfTI file must end in .nii or .nii.gz")
    geometry.check_grid(grid, path.name)
    if array.shape != grid.shape:
        raise BadGrid(f"{path.name}: an image of {array.shape} voxels came with a grid of {grid.shape}")
    image = nibabel.Nifti1Image(np.asarray(array, dtype=np.float32), grid.affine)
    image.set_sform(grid.affine, 1)  # 1: scanner coordinates
    image.set_qform(grid.affine, 1)
    image.header.set_xyzt_units("mm")
    content = image.to_bytes()
    with atomic_file(path) as file:
        file.write(igzip.compress(content, 1, mtime=0) if path.name.endswith(".gz") else content)
    return path
