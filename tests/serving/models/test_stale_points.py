"""Which of OHIF's points are those of another image."""

import pytest

from slem_app.serving.models.stale_points import READERS, StalePoints


def send(stale_points: StalePoints, points: dict, reader: str, image: str) -> tuple[dict, tuple[str, ...]]:
    """Points that could be used; what was left of them."""
    fresh, stale = stale_points.without(points, reader, image)
    stale_points.heard(fresh, reader, image)
    return fresh, stale


def test_the_same_list_on_another_image_is_left_out_each_time() -> None:
    stale_points = StalePoints()
    request = {"edema": [[1, 2, 3]], "necrosis": []}
    assert send(stale_points, request, "ann", "first") == (request, ())
    for _ in range(3):
        assert send(stale_points, request, "ann", "second") == ({"necrosis": []}, ("edema",))
    assert send(stale_points, request, "ann", "first") == (request, ())


@pytest.mark.parametrize(
    ("reader", "image", "points"),
    [
        ("ann", "first", [[1, 2, 3]]),  # the same image: the reader's points as before
        ("ben", "second", [[1, 2, 3]]),  # another reader
        ("ann", "second", [[1, 2, 4]]),  # another place
        ("ann", "second", [[1, 2, 3], [4, 5, 6]]),
    ],
)
def test_all_else_is_kept(reader: str, image: str, points: list) -> None:
    stale_points = StalePoints()
    send(stale_points, {"edema": [[1, 2, 3]]}, "ann", "first")
    request = {"edema": points}
    assert send(stale_points, request, reader, image) == (request, ())


def test_it_stays_small() -> None:
    stale_points = StalePoints()
    for n in range(READERS + 20):
        send(stale_points, {"edema": [[n, 0, 0]]}, f"reader {n}", "first")
    assert len(stale_points.sent) == READERS


def test_points_that_were_refused_are_not_remembered() -> None:
    stale_points, request = StalePoints(), {"edema": [[999, 2, 3]]}
    stale_points.without(request, "ann", "second")
    assert stale_points.without(request, "ann", "first") == (request, ())
