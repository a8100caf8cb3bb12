"""Which of OHIF's points are those of another image."""

import pytest

from slem_app.serving.models.stale_points import READERS, StalePoints

OHIF = {"restore_label_idx": False}


def send(stale_points: StalePoints, request: dict, reader: str, image: str) -> tuple[dict, tuple[str, ...]]:
    """A request that could be used; what was left of it."""
    fields, leaked = stale_points.without(request, reader, image)
    stale_points.heard(fields, reader, image)
    return fields, leaked


def test_the_same_list_on_another_image_is_left_out_each_time() -> None:
    stale_points = StalePoints()
    request = {"edema": [[1, 2, 3]], "necrosis": [], **OHIF}
    assert send(stale_points, request, "ann", "first") == (request, ())
    for _ in range(3):
        assert send(stale_points, request, "ann", "second") == ({"necrosis": [], **OHIF}, ("edema",))
    assert send(stale_points, request, "ann", "first") == (request, ())


@pytest.mark.parametrize(
    ("reader", "image", "points", "fields"),
    [
        ("ann", "first", [[1, 2, 3]], OHIF),  # the same image: the reader's points as before
        ("ben", "second", [[1, 2, 3]], OHIF),  # another reader
        ("ann", "second", [[1, 2, 4]], OHIF),  # another place
        ("ann", "second", [[1, 2, 3], [4, 5, 6]], OHIF),
        ("ann", "second", [[1, 2, 3]], {}),  # another client
        ("ann", "second", [[1, 2, 3]], {**OHIF, "client_id": "ann"}),
    ],
)
def test_all_else_is_kept(reader: str, image: str, points: list, fields: dict) -> None:
    stale_points = StalePoints()
    send(stale_points, {"edema": [[1, 2, 3]], **OHIF}, "ann", "first")
    request = {"edema": points, **fields}
    assert send(stale_points, request, reader, image) == (request, ())


def test_it_stays_small() -> None:
    stale_points = StalePoints()
    for n in range(READERS + 20):
        send(stale_points, {"edema": [[n, 0, 0]], **OHIF}, f"reader {n}", "first")
    assert len(stale_points.sent) == READERS


def test_points_that_were_refused_are_not_remembered() -> None:
    stale_points, request = StalePoints(), {"edema": [[999, 2, 3]], **OHIF}
    stale_points.without(request, "ann", "second")
    assert stale_points.without(request, "ann", "first") == (request, ())
