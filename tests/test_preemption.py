"""Long work lets short work come in between, and only there where it says so."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from slem_app.preemption import preemptible, uninterrupted, yield_point, yielding_map


def test_a_yield_point_does_nothing_of_its_own() -> None:
    yield_point()


def test_what_may_come_first_is_done_at_each_yield_point_of_the_block() -> None:
    seen: list[str] = []
    with preemptible(lambda: seen.append("between")):
        seen.append("one")
        yield_point()
        seen.append("two")
        yield_point()
    yield_point()
    assert seen == ["one", "between", "two", "between"]


def test_what_comes_in_is_not_interrupted_itself() -> None:
    depth = 0

    def between() -> None:
        nonlocal depth
        depth += 1
        yield_point()

    with preemptible(between):
        yield_point()
        with uninterrupted():
            yield_point()
        yield_point()
    assert depth == 2


def test_an_error_of_what_comes_in_leaves_the_rest_interruptible() -> None:
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise ZeroDivisionError

    with preemptible(between):
        with pytest.raises(ZeroDivisionError):
            yield_point()
        yield_point()
    assert calls == 2


def test_waiting_for_a_pool_is_a_yield_point() -> None:
    calls = 0

    def between() -> None:
        nonlocal calls
        calls += 1

    def slow(value: int) -> int:
        time.sleep(0.3)
        return 2 * value

    with ThreadPoolExecutor(2) as pool, preemptible(between):
        assert list(yielding_map(pool, slow, [1, 2, 3])) == [2, 4, 6]
    assert calls >= 2
