"""Kayal's pretext: paint in one supervoxel that was blanked.

Kayal, Chen, Bashyam et al.: "Region-of-Interest Guided Supervoxel Inpainting for Self-supervision", MICCAI
2020. A U-Net restores a supervoxel (SLIC, Achanta et al., TPAMI 2012, eq. 3: n_segments 400, compactness 0.15
on FLAIR and T1ce) that was blanked in its input, by the mean squared error, the reconstruction loss of Pathak
et al. (CVPR 2016, eq. 1): || M * (x - F((1 - M) * x)) ||^2. Their best variant picks supervoxels by the
ground truth, so it sees labels; this is the one that picks any supervoxel of the head ("noroi").
Our reading: blanked in all sequences, since all of them are the input of the segmentation; the error is taken
inside the hole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from slem_app.errors import BadSetting
from slem_app.network import SegmenterConfig
from slem_app.pretext.heads import RestoreHead
from slem_app.pretext.restore import explained, masked_error
from slem_app.pretext.task import HeadView, Sample, Task
from slem_app.volumes.cache import CachedCase

__all__ = ["Supervoxel", "supervoxels"]


def supervoxels(images: np.ndarray, head: np.ndarray, count: int, compactness: float) -> np.ndarray:
    """SLIC supervoxels of the head.

    Args:
        images: (C, I, J, K), the sequences it goes by.
        head: (I, J, K) bool.
        count: about how many.
        compactness: weight of nearness against likeness of intensities in 0..1.

    Returns:
        (I, J, K) int32, 1.. in the head, 0 elsewhere.

    Raises:
        BadSetting: scikit-image is not installed.
    """
    try:  # only here, so that a training server with a filled cache does without
        from skimage.segmentation import slic
    except ImportError as error:
        raise BadSetting(
            "supervoxels need scikit-image: pip install scikit-image, or fill the cache on a machine "
            "that has it"
        ) from error
    values = images[:, head]
    low, high = np.percentile(values, [0.5, 99.5], axis=1)
    scaled = np.clip(
        (images - low[:, None, None, None]) / np.maximum(high - low, 1e-6)[:, None, None, None], 0, 1
    )
    return slic(
        np.moveaxis(scaled, 0, -1),
        n_segments=count,
        compactness=compactness,
        mask=head,
        channel_axis=-1,
        start_label=1,
    ).astype(np.int32)


@dataclass(frozen=True)
class Supervoxel(Task):
    """Inpainting of supervoxels.

    Raises:
        BadSetting: a value out of range.
    """

    name: ClassVar[str] = "supervoxel"
    decodes: ClassVar[bool] = True
    annotates: ClassVar[bool] = True

    count: int = 400
    """n_segments of SLIC."""
    compactness: float = 0.15
    """Of SLIC."""
    holes: int = 1
    """Supervoxels blanked in a sample."""
    slic_on: tuple[int, ...] = (1, 3)
    """Slots that SLIC goes by, t1c and t2f of the brain's four; those that a case lacks are left out, and
    with none of them all count.
    """

    def __post_init__(self) -> None:
        object.__setattr__(self, "slic_on", tuple(self.slic_on))
        if self.count < 2 or self.compactness <= 0 or self.holes < 1:
            raise BadSetting(f"count must be at least 2, compactness and holes positive: {self}")

    def slots(self, sequences: int) -> int:
        return sequences

    def annotate(self, case: CachedCase) -> np.ndarray:
        """The supervoxels of a case, (I, J, K) int32."""
        images = np.asarray(case.images, dtype=np.float32)[case.present]
        there = np.flatnonzero(case.present).tolist()
        by = [there.index(slot) for slot in self.slic_on if slot in there] or list(range(len(there)))
        return supervoxels(images[by], (images != 0).any(axis=0), self.count, self.compactness)

    def sample(self, view: HeadView, rng: np.random.Generator, stride: int) -> Sample:
        assert view.notes is not None, "made by `annotate`"
        numbers = np.unique(view.notes)
        numbers = numbers[numbers > 0]
        hole = np.isin(view.notes, rng.choice(numbers, size=min(self.holes, len(numbers)), replace=False))
        images = torch.from_numpy(np.where(hole, 0, view.images))
        where = hole & view.tissue
        return Sample(
            {"images": images, "present": torch.from_numpy(view.present)},
            {"truth": torch.from_numpy(view.images), "where": torch.from_numpy(where)},
        )

    def head(self, config: SegmenterConfig) -> nn.Module:
        return RestoreHead(config.channels[0], config.sequences, config.stem_stride)

    def losses(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Mean squared error in the hole."""
        return masked_error(outputs["restored"], targets["truth"], targets["where"], power=2)

    def metrics(
        self, outputs: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """'score' 1 - the hole's mean squared error / the head's variance; 'chance' 0, about what the head's
        mean gives.
        """
        truth = targets["truth"]
        score = explained(outputs["restored"], truth, targets["where"], among=truth != 0)
        return {"score": score, "chance": torch.zeros_like(score)}

    def describe(self, sample: Sample, sequences: Sequence[str]) -> list[str]:
        return [f"hole of {int(sample.targets['where'].any(dim=0).sum())} voxels"]
