"""Which of OHIF's points are those of another image."""

import pytest

from slem_app.serving.leaks import READERS, Leaks

OHIF = {"restore_label_idx": False}


def test_the_same_list_on_another_image_is_left_out_each_time() -> None:
    leaks = Leaks()
    request = {"edema": [[1, 2, 3]], "necrosis": [], **OHIF}
    assert leaks.without(request, "ann", "first") == (request, ())
    for _ in range(3):
        assert leaks.without(request, "ann", "second") == ({"necrosis": [], **OHIF}, ("edema",))
    assert leaks.without(request, "ann", "first") == (request, ())


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
    leaks = Leaks()
    leaks.without({"edema": [[1, 2, 3]], **OHIF}, "ann", "first")
    request = {"edema": points, **fields}
    assert leaks.without(request, reader, image) == (request, ())


def test_it_stays_small() -> None:
    leaks = Leaks()
    for n in range(READERS + 20):
        leaks.without({"edema": [[n, 0, 0]], **OHIF}, f"reader {n}", "first")
    assert len(leaks.sent) == READERS
