"""A stored segmentation as an independent reader sees it."""

from io import BytesIO

import highdicom
import numpy as np
from pydicom import Dataset

from slem_app.types import Grid


def read_by_highdicom(seg: Dataset, grid: Grid) -> np.ndarray:
    """(I, J, K) label names on a grid, by highdicom's own reader; every frame must lie on a slice of it."""
    content = BytesIO()
    seg.save_as(content, write_like_original=False)
    content.seek(0)
    read = highdicom.seg.segread(content)
    names = np.full(grid.shape, "", dtype="<U32")
    for groups, plane in zip(
        read.PerFrameFunctionalGroupsSequence, read.pixel_array.reshape(-1, read.Rows, read.Columns)
    ):
        label = read.get_segment_description(
            groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        ).SegmentLabel
        place = grid.to_index(
            np.diag([-1, -1, 1]) @ np.array(groups.PlanePositionSequence[0].ImagePositionPatient, float)
        )
        assert np.abs(place - np.round(place)).max() < 0.05
        assert np.abs(place[:2]).max() < 0.05
        names[:, :, round(place[2])][plane.T.astype(bool)] = label
    return names
