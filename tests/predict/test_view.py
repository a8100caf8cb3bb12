"""The part of a volume that the network looks at again around prompts."""

import numpy as np
import pytest

from slem_app.predict.view import ViewSettings, groups, view
from slem_app.prompts import BACKGROUND, Click
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS

Voxel = tuple[int, int, int]
GRID = Grid((96, 96, 96), np.diag([1.5, 1.5, 1.5, 1.0]))


def looked_at(label: str, voxel: Voxel, shown: np.ndarray, **settings: float) -> tuple[slice, slice, slice]:
    click = Click.on(GRID, voxel, label)
    return view([click], shown, GRID, GRID, BRAIN_LABELS, ViewSettings(**settings), multiple=16, stride=2).box


def test_a_view_holds_the_click_and_grows_with_what_is_corrected() -> None:
    small, large = np.zeros(GRID.shape, np.uint8), np.zeros(GRID.shape, np.uint8)
    small[46:52, 46:52, 46:52], large[20:76, 20:76, 20:76] = 2, 2
    for shown, least in ((small, 64), (large, 80)):
        box = looked_at(BACKGROUND, (48, 48, 48), shown)
        assert [s.stop - s.start for s in box] == [least] * 3
        assert all(s.start % 2 == 0 and s.start <= 48 < s.stop for s in box)
    assert all(s.stop - s.start == 64 for s in looked_at(BACKGROUND, (48, 48, 48), large, largest=96.0))


@pytest.mark.parametrize("voxel", [(0, 0, 0), (95, 95, 95), (0, 50, 95)])
def test_a_view_stays_in_the_volume(voxel: Voxel) -> None:
    box = looked_at("edema", voxel, np.zeros(GRID.shape, np.uint8))
    assert all(0 <= s.start <= v < s.stop <= 96 for s, v in zip(box, voxel))


def test_a_view_reaches_for_the_label_that_is_asked_for() -> None:
    shown = np.zeros(GRID.shape, np.uint8)
    shown[30:70, 46:50, 46:50] = 3
    box = looked_at("enhancing tumor", (75, 48, 48), shown)
    assert box[0].start <= 30
    assert box[0].stop > 75


@pytest.mark.parametrize(("cube", "sizes"), [(False, [80, 64, 64]), (True, [80, 80, 80])])
def test_a_view_may_be_a_cube_so_that_few_shapes_occur(cube: bool, sizes: list[int]) -> None:
    shown = np.zeros(GRID.shape, np.uint8)
    shown[20:80, 46:50, 46:50] = 2
    assert [s.stop - s.start for s in looked_at(BACKGROUND, (48, 48, 48), shown, cube=cube)] == sizes


def test_far_prompts_are_looked_at_one_by_one() -> None:
    near, far = Click("edema", (10.0, 0, 0)), Click("edema", (90.0, 0, 0))
    assert groups([Click("edema", (0.0, 0, 0)), near, far], 60) == [
        [Click("edema", (0.0, 0, 0)), near],
        [far],
    ]
