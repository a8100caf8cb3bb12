"""Small studies on disk: stripped ones, and whole heads of which one sequence has moved."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from slem_app.phantom import Phantom, make, write_nifti
from slem_app.preprocess import PreprocessSettings
from slem_app.preprocess.folder import Wanted
from slem_app.types import Grid
from slem_app.volumes import coarse as coarse_module
from slem_app.volumes.levels import Volume
from slem_app.volumes.prepare import Preparation

MOVE = np.array([[1, 0, 0, 9.0], [0, 1, 0, -7.0], [0, 0, 1, 8.0], [0, 0, 0, 1]])
SEQUENCES = ("t1n", "t1c", "t2w", "t2f")
PAD = 10


@pytest.fixture(scope="session")
def head() -> Phantom:
    """A brain at 2 mm."""
    return make(3, (80, 96, 72), (2.0, 2.0, 2.0))


@pytest.fixture
def stripped(tmp_path: Path) -> Path:
    """A folder of two cases, stripped and in register."""
    for seed in (1, 2):
        write_nifti(
            make(seed, (40, 48, 36), (4.0, 4.0, 4.0)), tmp_path / "studies", f"case-{seed}", labels=False
        )
    return tmp_path / "studies"


@pytest.fixture
def whole(head: Phantom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one case: t1c and t2f with a shell as bright as fat, t2f moved by MOVE; the mask network
    knows the brain.
    """
    folder = tmp_path / "whole" / "raw-1"
    folder.mkdir(parents=True)
    for name in ("t1c", "t2f"):
        volume = with_skull(head.images[name], head.grid)
        affine = MOVE @ volume.grid.affine if name == "t2f" else volume.grid.affine
        nibabel.save(nibabel.Nifti1Image(volume.array, affine), folder / f"raw-1-{name}.nii.gz")

    def knows(volume: Volume, what: str) -> tuple[np.ndarray, Grid]:
        return np.pad((head.images["t1c"] > 0).astype(np.float32), PAD), volume.grid

    monkeypatch.setattr(coarse_module, "brain_probability", knows)
    return folder.parent


def with_skull(image: np.ndarray, grid: Grid) -> Volume:
    """The brain in a shell as bright as fat, in air with noise."""
    brain = np.pad(image, PAD)
    inside = ndimage.binary_fill_holes(brain > 0)
    depth = ndimage.distance_transform_edt(~inside) * 2.0
    level = float(np.percentile(image[image > 0], 90))
    noise = np.random.default_rng(0).random(brain.shape, dtype=np.float32)
    whole = np.where(inside, np.maximum(brain, 1.0), noise * 0.02 * level)
    whole[(depth > 6) & (depth < 14)] = 2.0 * level
    return Volume(whole.astype(np.float32), grid.crop((-PAD,) * 3, brain.shape))


@pytest.fixture
def wanted() -> Callable[..., Wanted]:
    """What is made, with the settings that a test is about."""

    def make_wanted(layout: str = "brats", **settings: object) -> Wanted:
        preparation = Preparation(spacing=(4.0, 4.0, 4.0))
        order = ("t1c", "t2f", "t2w", "t1n")
        return Wanted(SEQUENCES, order, preparation, PreprocessSettings(**settings), layout, {})

    return make_wanted
