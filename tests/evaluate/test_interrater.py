"""Agreement between readers, against figures worked out by hand."""

import numpy as np
import pytest

from slem_app.evaluate.interrater import agreements
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS

GRID = Grid((12, 12, 12), np.diag([2.0, 2.0, 2.0, 1.0]))


def cube(start: int, value: int) -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint8)
    array[start : start + 4, 2:6, 2:6] = value
    return array


def test_labels_and_regions_of_two_readers() -> None:
    found = agreements(
        "A", {"eva": (cube(2, 3), GRID), "tom": (cube(4, 3), GRID)}, BRAIN_LABELS.names, BRAIN_LABELS
    )
    rows = {one.part: one for one in found}
    assert list(rows) == ["necrosis", "edema", "enhancing tumor", "WT", "TC"]  # ET is the label itself
    for part in ("enhancing tumor", "WT", "TC"):
        one = rows[part]
        # half of each cube is shared
        assert (one.case, one.one, one.other, one.dice) == ("A", "eva", "tom", pytest.approx(0.5))
        assert one.hd95 == pytest.approx(4.0)  # two voxels of 2 mm
        assert (one.one_ml, one.other_ml) == pytest.approx((64 * 8 / 1000,) * 2)
    # both found none
    assert (rows["edema"].dice, rows["edema"].hd95, rows["edema"].one_ml) == (1.0, 0.0, 0.0)


def test_what_one_found_alone_has_no_distance_and_all_pairs_are_compared() -> None:
    maps = {"eva": (cube(2, 3), GRID), "tom": (cube(2, 1), GRID), "ida": (cube(2, 3), GRID)}
    found = agreements("A", maps, BRAIN_LABELS.names)
    assert {(one.one, one.other) for one in found} == {("eva", "tom"), ("eva", "ida"), ("tom", "ida")}
    rows = {(one.other, one.part): one for one in found if one.one == "eva"}
    assert (rows["tom", "necrosis"].dice, rows["tom", "necrosis"].hd95) == (0.0, None)
    assert rows["ida", "enhancing tumor"].dice == 1.0


def test_a_label_on_another_grid_is_brought_to_the_ones() -> None:
    turned = Grid(
        GRID.shape, GRID.affine @ np.array([[-1.0, 0, 0, 11], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    )
    (one,) = agreements("A", {"eva": (cube(2, 1), GRID), "tom": (cube(2, 1)[::-1], turned)}, ("liver",))
    assert (one.dice, one.resampled) == (1.0, True)
