"""Small pictures of cases."""

import numpy as np

from slem_app.report.pictures import thumbnail
from slem_app.types import Grid
from slem_app.volumes.levels import Volume


def test_a_thumbnail_shows_the_slice_with_most_of_the_label() -> None:
    grid = Grid((20, 24, 16), np.diag([-2.0, -2.0, 2.0, 1.0]))
    array = np.zeros(grid.shape, dtype=np.float32)
    array[2:18, 2:22, 1:15] = 100 + np.arange(1, 15)
    label = np.zeros(grid.shape, dtype=np.uint8)
    label[4:6, 4:6, 3] = 1
    label[4:10, 4:12, 11] = 2
    picture = thumbnail(Volume(array, grid), label, {1: (255, 0, 0), 2: (0, 255, 0)}, 96).astype(int)
    assert max(picture.shape[:2]) == 96
    green = (picture[..., 1] > 200) & (picture[..., 0] < 50)
    red = (picture[..., 0] > 200) & (picture[..., 1] < 50)
    assert green.any()
    assert not red.any()


def test_a_thumbnail_without_a_label_is_grey_and_through_the_middle() -> None:
    grid = Grid((20, 24, 16), np.diag([-2.0, -2.0, 2.0, 1.0]))
    array = np.zeros(grid.shape, dtype=np.float32)
    array[5:15, 5:20, 6:11] = 50.0
    array[8:12, 8:16, 8] = 200.0
    for label in (None, np.zeros(grid.shape, dtype=np.uint8)):
        picture = thumbnail(Volume(array, grid), label, {1: (255, 0, 0)}).astype(int)
        assert np.ptp(picture, axis=2).max() == 0
        assert len(np.unique(picture)) > 2  # the bright part of the middle slice is in it
