"""Voxels of a NIfTI file: never more is unpacked than its header promises; values are as nibabel has them.

Memory: the voxels as they are stored, once, and what is made of them.
"""

from __future__ import annotations

import numpy as np
from nibabel.volumeutils import apply_read_scaling

from slem_app.errors import BadVolume
from slem_app.studies.nifti_header import NiftiHeader
from slem_app.unpack import filled

__all__ = ["as_float", "scaled", "stored_voxels"]


def stored_voxels(header: NiftiHeader) -> np.ndarray:
    """The voxels as they are stored: of the header's shape and type, without its slope.

    Raises:
        BadVolume: truncated or damaged.
        TookTooLong: it takes too long to unpack.
    """
    try:
        with header.path.open("rb") as file:
            content = filled(header.content(file), header.offset, header.nbytes, header.path.name)
    except OSError as error:
        raise BadVolume(
            f"{header.path.name}: not a readable NIfTI image, or truncated ({error}): copy or export it again"
        ) from error
    return content.view(header.dtype).reshape(header.shape, order="F")


def as_float(stored: np.ndarray, header: NiftiHeader) -> np.ndarray:
    """Stored voxels (I, J, K) as float32, the header's slope applied; slice by slice, which saves memory."""
    array = np.empty(stored.shape, dtype=np.float32, order="F")
    for k in range(stored.shape[2]):
        array[..., k] = scaled(stored[..., k], header)
    return array


def scaled(stored: np.ndarray, header: NiftiHeader) -> np.ndarray:
    """Stored voxels with the header's slope applied, in the type that nibabel gives them."""
    return apply_read_scaling(stored, np.float64(header.slope), np.float64(header.inter))
