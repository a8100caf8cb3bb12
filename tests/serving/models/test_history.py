"""The way back, step by step, and how much of it is kept."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from slem_app.errors import BadPrompt
from slem_app.predict import Prediction, Result
from slem_app.prompts import BACKGROUND, Click, Prompts
from slem_app.serving.models.history import EditHistory, Moment, Work, less
from slem_app.types import Grid
from slem_app.weights import BRAIN_LABELS

GRID = Grid((20, 20, 20), np.diag([-2.0, -2.0, 2.0, 1.0]))
CLICKS = [Click("edema", (0.0, 0.0, float(n))) for n in range(12)]


@pytest.fixture
def start() -> Result:
    array = np.zeros(GRID.shape, np.uint8, order="F")
    array[5:9, 5:9, 5:9] = 1
    return Result(Prediction(array, GRID, BRAIN_LABELS, ("t1c",), ()), np.zeros((3, 10, 10, 10), np.float32))


@pytest.fixture
def walk(start: Result) -> Callable[[int], tuple[Work, list[np.ndarray]]]:
    """A work after some steps, each of which paints a cube, and what was shown at each."""

    def go(steps: int) -> tuple[Work, list[np.ndarray]]:
        work, seen = Work.begin(start), [start.prediction.array]
        for n in range(steps):
            array = work.array.copy(order="K")
            array[n : n + 3, n : n + 3, n : n + 3] = 2 + n % 2
            work = work.ahead(
                Moment(start, work.now.prompts.with_click(CLICKS[n]), {None: tuple(CLICKS[: n + 1])}), array
            )
            seen.append(array)
        return work, seen

    return go


def test_steps_back_show_what_was_shown(walk: Callable) -> None:
    work, seen = walk(5)
    for expected in reversed(seen[:-1]):
        work = work.back()
        np.testing.assert_array_equal(work.array, expected)
        np.testing.assert_array_equal(work.result.prediction.array, expected)
    with pytest.raises(BadPrompt, match="there is nothing to undo"):
        work.back()


def test_steps_taken_back_are_done_again_until_something_else_is_done(walk: Callable) -> None:
    work, seen = walk(4)
    back = work.back().back().back()
    again = back.forward()
    np.testing.assert_array_equal(again.array, seen[2])
    assert again.now.prompts == work.back().back().now.prompts
    np.testing.assert_array_equal(again.forward().forward().array, seen[4])
    np.testing.assert_array_equal(again.back().array, seen[1])
    with pytest.raises(BadPrompt, match="there is nothing to redo"):
        again.forward().forward().forward()
    other = again.array.copy(order="K")
    other[15, 15, 15] = 1
    with pytest.raises(BadPrompt, match="there is nothing to redo"):
        again.ahead(again.now, other).forward()


def test_a_step_holds_only_what_changed(walk: Callable) -> None:
    work, _ = walk(1)
    assert work.past[0].was.shape == (3, 3, 3)
    assert work.nbytes < 2.1 * work.array.nbytes + 3 * 10**3 * 4


def test_a_step_is_found_in_the_box_that_may_have_changed(start: Result) -> None:
    array = start.prediction.array.copy(order="K")
    array[4, 5, 6] = 3
    work = Work.begin(start).ahead(
        Moment(start, Prompts((CLICKS[0],))), array, changed=(slice(2, 9), slice(3, 9), slice(0, 20))
    )
    assert work.past[0].box == (slice(4, 5), slice(5, 6), slice(6, 7))
    assert (work.back().array == start.prediction.array).all()


def test_nothing_new_is_no_step(start: Result) -> None:
    work = Work.begin(start)
    assert not work.ahead(Moment(start, clicks={None: ()}), work.array).past


def test_a_click_that_changes_nothing_can_be_undone_too(start: Result) -> None:
    work = Work.begin(start).ahead(Moment(start, Prompts((CLICKS[0],))), start.prediction.array)
    assert work.back().now.prompts == Prompts()


def test_what_is_undone_is_settled(walk: Callable) -> None:
    work = walk(3)[0].back()
    assert work.now.settled == (CLICKS[2],)
    assert work.now.prompts.entries == tuple(CLICKS[:2])


def test_the_nearest_moment_is_the_latest_that_only_lacks_prompts(walk: Callable, start: Result) -> None:
    work, seen = walk(4)
    result, present = work.nearest(Prompts(tuple(CLICKS[:4])), start)
    assert present
    np.testing.assert_array_equal(result.prediction.array, seen[4])
    result, present = work.nearest(Prompts((CLICKS[0], CLICKS[1], CLICKS[3])), start)  # the third was removed
    assert not present
    np.testing.assert_array_equal(result.prediction.array, seen[2])
    assert work.nearest(Prompts((Click(BACKGROUND, (9.0, 9.0, 9.0)),)), start)[0].prompts == Prompts()
    elsewhere = Result(start.prediction, start.probabilities)
    assert work.nearest(Prompts(tuple(CLICKS[:4])), elsewhere) == (elsewhere, False)


def test_less_counts() -> None:
    one, two = CLICKS[:2]
    assert less((one, two, one), (one,)) == (two, one)
    assert less((), (one,)) == ()


def test_the_least_recently_used_work_goes_first(start: Result) -> None:
    work = Work.begin(start)
    memory = EditHistory(int(2.5 * work.nbytes))
    for key in ("a", "b"):
        memory.put(key, 0, work)
    assert memory.get("a", 0) is work
    memory.put("c", 0, work)
    assert (memory.get("b", 0), memory.get("a", 0) is work, memory.get("c", 0) is work) == (None, True, True)
    assert memory.used == 2 * work.nbytes <= memory.limit


def test_a_work_gives_up_its_oldest_steps_before_others_go(walk: Callable, start: Result) -> None:
    work, seen = walk(10)
    memory = EditHistory(work.nbytes - 30)
    kept = memory.put("a", 0, work)
    assert 0 < len(kept.past) < 10
    np.testing.assert_array_equal(kept.back().array, seen[9])
    assert memory.used <= memory.limit


def test_what_is_too_large_is_not_kept(walk: Callable) -> None:
    memory = EditHistory(100)
    memory.put("a", 0, walk(2)[0])
    assert (memory.get("a", 0), memory.used) == (None, 0)


def test_a_work_counts_for_one_state_of_the_case(start: Result) -> None:
    memory = EditHistory(10**6)
    memory.put("a", (1, 2), Work.begin(start))
    assert memory.get("a", (1, 3)) is None
    assert memory.get("a", (1, 2)) is not None


def test_placed_prompts_are_counted_though_they_were_undone_or_went_into_a_mask(walk: Callable) -> None:
    work = walk(3)[0]
    assert work.placed == 3
    assert work.back().placed == 3
    memory = EditHistory(10**6)
    memory.put(("eva", "A"), 0, work)
    memory.put(("tom", "A"), 0, work)
    assert memory.find(lambda key: key[0] == "eva") == (work,)


def test_another_reach_of_the_step_s_prompt_takes_its_place(walk: Callable, start: Result) -> None:
    work, seen = walk(3)
    last = replace(CLICKS[2], reach=0.5)
    array = seen[2].copy(order="K")
    array[10:18, 2:18, 10:14] = 1
    further = work.ahead(Moment(start, Prompts((*CLICKS[:2], last))), array)
    assert len(further.past) == 3
    np.testing.assert_array_equal(further.array, array)
    np.testing.assert_array_equal(further.back().array, seen[2])
    np.testing.assert_array_equal(further.back().forward().array, array)
    assert further.back().forward().now.prompts.entries[-1].reach == 0.5
    again = further.ahead(Moment(start, Prompts(tuple(CLICKS[:3]))), seen[3])
    np.testing.assert_array_equal(again.back().array, seen[2])
    assert len(again.past) == 3


def test_another_reach_of_an_older_prompt_is_a_step(walk: Callable, start: Result) -> None:
    work, seen = walk(3)
    older = replace(CLICKS[0], reach=-0.5)
    stepped = work.ahead(Moment(start, Prompts((older, *CLICKS[1:3]))), seen[1])
    assert len(stepped.past) == 4
    np.testing.assert_array_equal(stepped.back().array, seen[3])


def test_an_undone_prompt_stays_undone_whatever_its_reach() -> None:
    first, second = CLICKS[:2]
    assert less((replace(first, reach=1.0), second), (first,)) == (second,)
