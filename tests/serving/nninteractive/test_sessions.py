"""Sessions of nnInteractive's protocol: few, each its user's, and over in time."""

import asyncio

import pytest

from slem_app.errors import TooMany
from slem_app.serving.nninteractive.sessions import LIVENESS, LeaseOver, ObjectSessions


class Work:
    closed = False

    def close(self) -> None:
        self.closed = True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(clock: Clock) -> ObjectSessions:
    return ObjectSessions(2, 600.0, clock)


def claimed(sessions: ObjectSessions, user: str = "") -> tuple[str, Work, int]:
    work, places = Work(), []
    token = sessions.claim(user, lambda place: places.append(place) or work)
    return token, work, places[0]


def test_places_are_few_and_reused(sessions: ObjectSessions) -> None:
    (first, work, place), (second, _, other) = claimed(sessions), claimed(sessions)
    assert (place, other) == (1, 2)
    assert first != second
    with pytest.raises(TooMany, match="all 2 sessions"):
        claimed(sessions)
    sessions.release(first, "")
    assert work.closed
    assert claimed(sessions)[2] == 1


def test_one_user_holds_half_of_the_places(clock: Clock) -> None:
    sessions = ObjectSessions(4, 600.0, clock)
    first, _, _ = claimed(sessions, "ann")
    claimed(sessions, "ann")
    with pytest.raises(TooMany, match="ann has 2 sessions"):
        claimed(sessions, "ann")
    claimed(sessions, "ben")
    sessions.release(first, "ann")
    claimed(sessions, "ann")


def test_a_client_that_is_silent_loses_its_session(sessions: ObjectSessions, clock: Clock) -> None:
    token, work, _ = claimed(sessions)
    clock.now = LIVENESS - 1
    sessions.get(token, "")
    clock.now += LIVENESS - 1
    sessions.get(token, "")
    clock.now += LIVENESS + 1
    with pytest.raises(LeaseOver, match="connect again"):
        sessions.get(token, "")
    assert work.closed


def test_signs_of_life_do_not_keep_a_session_whose_user_does_nothing(
    sessions: ObjectSessions, clock: Clock
) -> None:
    token, work, _ = claimed(sessions)
    for clock.now in range(0, 601, 30):
        sessions.get(token, "")
    assert sessions.left(sessions.get(token, "")) == 0.0
    sessions.get(token, "", acts=True)
    assert sessions.left(sessions.get(token, "")) == 600.0
    for clock.now in range(600, 1260, 30):
        sessions.sweep() if clock.now > 1200 else sessions.get(token, "")
    assert work.closed


def test_a_session_that_works_is_not_taken_away(sessions: ObjectSessions, clock: Clock) -> None:
    token, work, _ = claimed(sessions)

    async def working() -> None:
        async with sessions.open[token].lock:
            clock.now = 10_000.0
            sessions.sweep()

    asyncio.run(working())
    assert not work.closed


def test_another_users_session_is_none(sessions: ObjectSessions) -> None:
    token, work, _ = claimed(sessions, "ann")
    with pytest.raises(LeaseOver):
        sessions.get(token, "ben")
    sessions.release(token, "ben")
    assert not work.closed
    assert sessions.get(token, "ann").user == "ann"
