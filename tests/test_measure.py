"""Measurements of shapes whose size is known."""

from __future__ import annotations

import numpy as np
import pytest

from slem_app.errors import BadLabel
from slem_app.labels import Code, Label, LabelSet, Region
from slem_app.measure import acquired_along, bidirectional, measure
from slem_app.types import Grid

CODE = Code("1", "x", "99X")
LABELS = LabelSet(
    (Label("core", 1, CODE), Label("rim", 2, CODE)),
    (Region("whole", ("core", "rim")), Region("core", ("core",))),
)
SPACINGS = [(1.0, 1.0, 1.0), (0.9, 0.9, 5.0), (5.0, 0.8, 0.8), (1.5, 1.0, 0.7)]


def oblique(shape: tuple[int, int, int], spacing: tuple[float, float, float], turn: float = 0.4) -> Grid:
    """A grid turned about two axes, its middle at the world's origin."""
    a, b = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]), np.eye(4)
    first, second = np.eye(3), np.eye(3)
    first[:2, :2] = a
    second[1:, 1:] = a
    b[:3, :3] = first @ second @ np.diag(spacing)
    grid = Grid(shape, b)
    b = b.copy()
    b[:3, 3] -= grid.to_world((np.array(shape) - 1) / 2)
    return Grid(shape, b)


def ellipsoid(grid: Grid, radii: tuple[float, float, float], axes: np.ndarray, at: np.ndarray) -> np.ndarray:
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    local = (grid.to_world(index) - at) @ axes
    return (np.square(local / radii).sum(axis=-1) <= 1).astype(bool)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_an_ellipsoid_is_measured_in_every_grid(spacing: tuple[float, float, float]) -> None:
    shape = tuple(int(70 / s) for s in spacing)
    grid = oblique(shape, spacing)
    along = acquired_along(grid)
    assert along == int(np.argmax(spacing)) or len(set(spacing)) == 1
    # the slices cut it through its two short radii or the longest, along the grid's own axes
    radii = (12.0, 20.0, 15.0)
    mask = ellipsoid(grid, radii, grid.axes, np.zeros(3))
    one = measure(mask.astype(np.uint8), grid, LABELS).structure("core")
    exact = 4 / 3 * np.pi * np.prod(radii) / 1000
    assert one.volume_ml == pytest.approx(exact, rel=0.03)
    assert one.diameter == pytest.approx(40, abs=max(spacing))
    [lesion] = one.lesions
    short, long = sorted(radii[axis] * 2 for axis in range(3) if axis != along)
    assert lesion.diameters.long == pytest.approx(long, abs=1.0)
    assert lesion.diameters.short == pytest.approx(short, abs=1.0)
    assert lesion.diameters.product == pytest.approx(long * short, rel=0.06)
    assert one.product == lesion.diameters.product
    np.testing.assert_allclose(lesion.centre, 0, atol=0.5)


def test_the_ends_of_both_diameters_lie_where_they_are_drawn() -> None:
    grid = oblique((60, 60, 20), (0.9, 0.9, 4.0))
    mask = ellipsoid(grid, (18.0, 11.0, 20.0), grid.axes, grid.to_world(np.array([35, 25, 12])))
    pair = bidirectional(mask, grid, 2)
    first, last, low, high = (np.array(end) for end in pair.ends)
    assert np.linalg.norm(last - first) == pytest.approx(pair.long)
    assert np.linalg.norm(high - low) == pytest.approx(pair.short)
    assert (last - first) @ (high - low) == pytest.approx(0, abs=1e-6)
    for end in pair.ends:
        assert grid.to_index(np.array(end))[2] == pytest.approx(pair.slice)
    assert pair.slice == 12


def test_lesions_are_counted_and_only_large_ones_are_measurable() -> None:
    grid = Grid((80, 80, 80), np.eye(4))
    label_map = np.zeros(grid.shape, dtype=np.uint8)
    for at, radius in (((20, 20, 20), 8), ((60, 60, 60), 4), ((20, 60, 40), 1)):
        label_map[ellipsoid(grid, (radius,) * 3, np.eye(3), np.array(at))] = 1
    label_map[70, 5, 5] = 1  # less than 0.03 ml is no lesion, but has a volume
    one = measure(label_map, grid, LABELS).structure("core")
    large, small = one.lesions
    assert large.diameters.measurable
    assert not small.diameters.measurable
    assert one.product == pytest.approx(large.diameters.product)
    assert large.diameters.product == pytest.approx(256, rel=0.1)
    assert one.volume_ml == pytest.approx((label_map == 1).sum() / 1000)


def test_regions_unite_labels_and_what_cannot_be_assessed_is_left_out() -> None:
    grid = Grid((30, 30, 30), np.diag([-1.0, -1.0, 1.0, 1.0]))
    label_map = np.zeros(grid.shape, dtype=np.uint8)
    label_map[5:15, 5:15, 5:15] = 1
    label_map[15:20, 5:15, 5:15] = 2
    found = measure(label_map, grid, LABELS)
    assert [one.name for one in found.structures] == ["core", "rim", "whole"]
    assert found.structure("whole").volume_ml == pytest.approx(1.5)
    assert found.structure("whole").diameter == pytest.approx(np.sqrt(225 + 100 + 100), abs=0.8)
    hidden = measure(label_map, grid, LABELS, ["rim", "whole"])
    assert hidden.table()["not_assessable"] == ["rim", "whole"]
    with pytest.raises(BadLabel, match="'rim': it is not assessable"):
        hidden.structure("rim")
    with pytest.raises(BadLabel, match="'cyst': known are core, rim, whole"):
        found.structure("cyst")


@pytest.mark.parametrize("shape", [(1, 1, 1), (9, 1, 1), (1, 9, 9)])
def test_thin_things_have_a_size(shape: tuple[int, int, int]) -> None:
    grid = Grid((20, 20, 20), np.diag([1.0, 1.0, 4.0, 1.0]))
    label_map = np.zeros(grid.shape, dtype=np.uint8)
    label_map[tuple(slice(5, 5 + n) for n in shape)] = 1
    one = measure(label_map, grid, LABELS).structure("core")
    assert one.diameter >= 1
    for lesion in one.lesions:
        assert 0 < lesion.diameters.short <= lesion.diameters.long


def test_nothing_has_no_size() -> None:
    found = measure(np.zeros((4, 4, 4), np.uint8), Grid((4, 4, 4), np.eye(4)), LABELS)
    assert found.structure("core").volume_ml == found.structure("core").diameter == 0.0
    assert found.structure("core").lesions == ()
    assert found.structure("core").product == 0
