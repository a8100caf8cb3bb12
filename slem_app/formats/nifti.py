"""A label map as NIfTI."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
from isal import igzip

from slem_app.errors import BadSetting
from slem_app.files import atomic_file
from slem_app.formats.checks import check_labels
from slem_app.labels import LabelSet
from slem_app.types import Grid

__all__ = ["encoded", "write_nifti", "write_values"]


def write_nifti(array: np.ndarray, grid: Grid, labels: LabelSet, path: Path, durable: bool = True) -> Path:
    """Write a label map as uint8 NIfTI, whole or not at all.

    Args:
        array: (I, J, K) label values.
        grid: its grid.
        labels: what the values mean.
        path: ends in .nii or .nii.gz.
        durable: wait until the disk has it.

    Returns:
        `path`.

    Raises:
        BadSetting: another ending.
        BadLabel: a value that `labels` lacks.
        BadGrid: an array of another shape than the grid, or a grid that no image can have.
        StorageFailed: the disk refused.
    """
    return write_values(check_labels(array, grid, labels), grid, path, durable)


def write_values(array: np.ndarray, grid: Grid, path: Path, durable: bool = True) -> Path:
    """Write a label map in whatever values, e.g. those of a public data set, as uint8 NIfTI; arguments and
    errors else as those of `write_nifti`.
    """
    path = Path(path)
    if not path.name.endswith((".nii", ".nii.gz")):
        raise BadSetting(f"{path.name}: a NIfTI file must end in .nii or .nii.gz")
    content = _content(array, grid)
    with atomic_file(path, durable=durable) as file:
        file.write(_packed(content) if path.name.endswith(".gz") else content)
    return path


def encoded(array: np.ndarray, grid: Grid, labels: LabelSet) -> bytes:
    """What `write_nifti` writes into a .nii.gz file; arguments and errors as there."""
    return _packed(_content(check_labels(array, grid, labels), grid))


def _content(array: np.ndarray, grid: Grid) -> bytes:
    image = nibabel.Nifti1Image(np.asfortranarray(array, dtype=np.uint8), grid.affine)
    image.set_sform(grid.affine, 1)  # 1: scanner coordinates
    image.set_qform(grid.affine, 1)
    image.header.set_xyzt_units("mm")
    image.header.set_intent("label", name="segmentation")
    return image.to_bytes()


def _packed(content: bytes) -> bytes:
    return igzip.compress(content, 1, mtime=0)
