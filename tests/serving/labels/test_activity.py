"""What a reader has spent on a case, from requests alone."""

import pytest

from slem_app.serving.labels.activity import Activity


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_time_runs_from_the_first_request_and_long_silence_counts_in_part(clock: Clock) -> None:
    activity = Activity(60, clock=clock)
    for now in (1000, 1030, 5000, 5010):
        clock.now = now
        activity.touch("A", "eva")
    clock.now = 5015
    assert activity.take("A", "eva", 3) == (30 + 60 + 10 + 5, 3)


def test_each_version_tells_what_it_cost_beyond_the_one_before(clock: Clock) -> None:
    activity = Activity(60, clock=clock)
    activity.touch("A", "eva")
    clock.now += 20
    assert activity.take("A", "eva", 3) == (20, 3)
    clock.now += 10  # nothing asked for: drawn by hand
    assert activity.take("A", "eva", 3) == (10, 0)
    clock.now += 86_400  # the next day begins anew
    activity.touch("A", "eva")
    clock.now += 5
    assert activity.take("A", "eva", 5) == (5, 2)
    assert activity.take("A", "eva", 0) == (0, 0)  # the clicks were forgotten meanwhile


def test_readers_and_cases_are_apart_and_what_is_not_known_is_not_guessed(clock: Clock) -> None:
    activity = Activity(60, clock=clock)
    activity.touch("A", "eva")
    activity.touch("B", "tom")
    clock.now += 7
    assert activity.take("A", "tom", 0) == (None, 0)
    assert activity.take("A", "eva", 0) == (7, 0)


def test_a_lease_remembers_the_beginning_for_a_server_that_was_started_anew(clock: Clock) -> None:
    activity = Activity(600, lambda case, reader: 900.0 if (case, reader) == ("A", "eva") else None, clock)
    assert activity.take("A", "eva", 0) == (100, 0)
    assert activity.take("A", "tom", 0) == (None, 0)
