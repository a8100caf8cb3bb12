"""Small cases and hand-made series for the tests of volumes."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app.phantom import Phantom, make
from slem_app.studies import Series
from slem_app.volumes.prepare import Volume

SHAPE, SPACING = (56, 66, 48), (3.0, 3.0, 3.0)


@pytest.fixture(scope="session")
def case() -> Phantom:
    """A head at 3 mm, every sequence on one LPS grid."""
    return make(3, SHAPE, SPACING)


@pytest.fixture
def volumes_of():
    """Phantom -> volumes by sequence."""

    def volumes(phantom: Phantom) -> dict[str, Volume]:
        return {name: Volume(image, phantom.grids[name]) for name, image in phantom.images.items()}

    return volumes


@pytest.fixture
def nifti(tmp_path: Path):
    """Write an array as NIfTI and give the series; `Series` alone, where no array is given."""

    def write(
        array: np.ndarray,
        name: str = "t1.nii.gz",
        affine: np.ndarray | None = None,
        channel: int | None = None,
    ) -> Series:
        path = tmp_path / name
        nibabel.save(
            nibabel.Nifti1Image(array, np.diag([2.0, 2.0, 2.0, 1.0]) if affine is None else affine), path
        )
        return Series("t1", (path,), "nifti", "t1", channel)

    return write
