from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from slem_app.phantom import Phantom, make

Touch = Callable[..., Path]


@pytest.fixture(scope="session")
def phantom() -> Phantom:
    return make(seed=1, shape=(12, 14, 10), spacing=(12.0, 12.0, 14.0))


@pytest.fixture
def image() -> Callable[..., Path]:
    """Write a small NIfTI image."""

    def write(
        path: Path,
        shape: tuple[int, ...] = (4, 5, 6),
        dtype: type = np.int16,
        affine: np.ndarray | None = None,
    ) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(
            nibabel.Nifti1Image(
                np.ones(shape, dtype), np.diag([-1.0, -1.0, 2.0, 1.0]) if affine is None else affine
            ),
            path,
        )
        return path

    return write


@pytest.fixture
def files(tmp_path: Path) -> Callable[..., Path]:
    """Make empty files; their names are all that listing may look at."""

    def make_files(*names: str) -> Path:
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        return tmp_path

    return make_files
