"""Lesions of two visits matched, and the category of RANO 2.0 by cases whose answer the rules give."""

from __future__ import annotations

import numpy as np
import pytest

from slem_app.errors import BadGrid
from slem_app.followup import Burden, Category, Change, Pair, match, respond
from slem_app.measure import Bidirectional, Lesion
from slem_app.types import Grid

GRID = Grid((60, 60, 40), np.eye(4))


def balls(*spots: tuple[tuple[float, float, float], float]) -> np.ndarray:
    """(I, J, K) numbers of balls: middle and radius of each."""
    index = np.stack(np.meshgrid(*map(np.arange, GRID.shape), indexing="ij"), axis=-1)
    numbers = np.zeros(GRID.shape, np.int32)
    for number, (middle, radius) in enumerate(spots, 1):
        numbers[np.linalg.norm(index - np.array(middle), axis=-1) <= radius] = number
    return numbers


def lesion(long: float, short: float, ml: float = 0.0) -> Lesion:
    return Lesion(ml or long * short * short / 2000, (0.0, 0.0, 0.0), Bidirectional(long, short, 0, ()))


def burden(*sizes: tuple[float, float]) -> Burden:
    return Burden(tuple(lesion(*size) for size in sizes))


def same(before: Burden, now: Burden) -> list[Change]:
    """Each lesion is the one of its place in the list; what is more is new or gone."""
    count = max(len(before.lesions), len(now.lesions))
    pairs = [Pair((n,) * (n < len(before.lesions)), (n,) * (n < len(now.lesions))) for n in range(count)]
    return [Change.of(pair, before.lesions, now.lesions) for pair in pairs]


def response(*visits: Burden) -> Category:
    return respond(visits, same(visits[-2], visits[-1])).category


def kinds(before: np.ndarray, now: np.ndarray) -> list[str]:
    return [pair.kind for pair in match(before, now, GRID)]


def test_a_lesion_that_grew_shrank_came_and_went_is_told() -> None:
    before = balls(((10, 10, 10), 5), ((30, 30, 20), 8), ((50, 10, 30), 4))
    now = balls(((10, 10, 10), 8), ((31, 30, 20), 4), ((50, 50, 10), 5))
    pairs = match(before, now, GRID)
    assert [pair.kind for pair in pairs] == ["same", "same", "new", "gone"]
    assert [(pair.before, pair.now) for pair in pairs] == [((0,), (0,)), ((1,), (1,)), ((), (2,)), ((2,), ())]


def test_lesions_merge_and_split() -> None:
    two, one = balls(((20, 20, 20), 6), ((34, 20, 20), 6)), balls(((27, 20, 20), 14))
    assert kinds(two, one) == ["merged"]
    assert kinds(one, two) == ["split"]


def test_a_small_lesion_that_lies_beside_itself_is_the_same_one_and_a_far_one_is_new() -> None:
    assert kinds(balls(((20, 20, 20), 2)), balls(((26, 20, 20), 2))) == ["same"]
    assert kinds(balls(((20, 20, 20), 2)), balls(((30, 20, 20), 2))) == ["new", "gone"]


def test_a_new_lesion_beside_an_old_one_is_new_and_a_touch_does_not_make_one_of_two() -> None:
    old = balls(((20, 20, 20), 6))
    assert kinds(old, balls(((20, 20, 20), 6), ((31, 20, 20), 3))) == ["same", "new"]
    neighbours = balls(((20, 20, 20), 6), ((33, 20, 20), 6))
    assert kinds(np.roll(neighbours, 1, axis=0), neighbours) == ["same", "same"]


def test_nothing_at_either_visit_matches_nothing() -> None:
    none = balls()
    assert match(none, none, GRID) == ()
    assert kinds(none, balls(((20, 20, 20), 5))) == ["new"]
    with pytest.raises(BadGrid, match="bring them to one grid"):
        match(none, none[1:], GRID)


@pytest.mark.parametrize(
    ("visits", "expected"),
    [
        ([burden((20, 20)), burden((22, 22))], Category.SD),
        ([burden((20, 20)), burden((23, 22))], Category.PD),  # 506 of 400 mm2
        ([burden((20, 20)), burden((14, 14))], Category.PR),
        ([burden((20, 20)), burden((15, 15))], Category.SD),
        ([burden((20, 20)), burden()], Category.CR),
        ([burden((20, 20)), burden((14, 14)), burden((16, 16))], Category.PD),  # a quarter above the smallest
        ([burden((20, 20)), burden((20, 20), (11, 10))], Category.PD),  # new and measurable
        ([burden((20, 20)), burden((14, 14), (6, 6))], Category.SD),  # a response, but for a small new one
        ([burden((20, 20)), burden((8, 8))], Category.PR),  # there, though too small for the sum
        ([burden((8, 8)), burden((12, 12))], Category.PD),  # became measurable
        ([burden((8, 8)), burden((6, 6))], Category.SD),
        ([burden((8, 8)), burden()], Category.SD),  # was never measurable
        ([burden(), burden()], Category.NE),
        ([burden(), burden((12, 12))], Category.PD),
    ],
)
def test_the_category_follows_the_rules(visits: list[Burden], expected: Category) -> None:
    assert response(*visits) == expected


def test_the_reasons_and_the_limits_are_told() -> None:
    first, second = burden((20, 20)), burden((20, 20), (12, 11))
    found = respond([first, second], same(first, second))
    assert found.reasons[0].startswith("A new measurable lesion, 12 x 11 mm")
    assert any("steroids" in text for text in found.limits)
    grown = respond([first, burden((24, 24))], same(first, burden((24, 24))))
    assert grown.reasons[0].startswith("The sum of products is 576 mm2, 400 at the first visit (+44 %).")
    assert grown.table()["category"] == "PD"


def test_it_is_told_where_the_number_of_targets_decides_the_category() -> None:
    first = burden((30, 30), (29, 30), (10, 10), (10, 11))
    stable = burden((30, 30), (29, 30), (10, 11), (10, 11))
    found = respond([first, stable], same(first, stable))
    assert found.category == Category.SD
    assert found.reasons[-1].endswith("with the 2 or 3 largest as targets the category is the same.")
    grown = burden((30, 30), (29, 30), (30, 20), (20, 20))  # what was small has grown
    found = respond([first, grown], same(first, grown))
    assert found.category == Category.PD  # 2770 mm2 of 1980; of three 2370 of 1880, of two no change
    assert found.reasons[-1].endswith("it depends on the number of targets: SD with the 2 largest.")
    assert not any("targets" in text for text in respond([burden((20, 20))] * 2, []).reasons)


def test_a_category_needs_two_visits() -> None:
    with pytest.raises(ValueError, match="two visits"):
        respond([burden((20, 20))], [])


def test_a_change_tells_volumes_and_products_with_their_sign() -> None:
    table = Change.of(
        Pair((0,), (0, 1)), [lesion(20, 10, 4.0)], [lesion(10, 10, 1.0), lesion(8, 5, 0.5)]
    ).table()
    assert table["kind"] == "split"
    assert (table["volume_before_ml"], table["volume_now_ml"], table["volume_change_percent"]) == (
        4.0,
        1.5,
        -62.5,
    )
    assert (table["product_before_mm2"], table["product_now_mm2"]) == (200.0, 140.0)
