"""Who saved a label: what is kept, and by what name a reader goes."""

import pytest

from slem_app.errors import BadLabel
from slem_app.store.record import LabelRecord, check_meta

MOVED = {
    "moved_mm": {"t2f": 8.1},
    "onto": "t1c",
    "left_out": {},
    "brain_mask": {"method": "slem_brainmask", "ml": 1401},
}


def test_what_was_done_to_a_study_must_be_a_table() -> None:
    with pytest.raises(BadLabel, match="preparation must be an object, got 'moved'"):
        check_meta({"record": {"preparation": "moved"}})
    check_meta({"record": {"preparation": MOVED}})


def test_is_read_back_as_it_was_kept() -> None:
    record = LabelRecord(
        5.5, "eva@1.2.3.4", "3D Slicer", "slem_brain", "2", "ab12", False, 63.5, 7, "eva", MOVED
    )
    assert LabelRecord.of({"ts": 1, "client_id": "another", **record.to_meta()}) == record


def test_a_version_without_one_tells_what_it_can_and_nothing_more() -> None:
    record = LabelRecord.of({"ts": 12, "client_id": "eva", "model": "slem_brain"})
    assert (record.ts, record.who, record.model, record.seconds, record.clicks) == (
        12.0,
        "eva",
        "slem_brain",
        None,
        None,
    )
    assert LabelRecord.of({"record": {"reader": "eva@x", "from a later version": 1}}).reader == "eva@x"


@pytest.mark.parametrize(
    ("record", "who"),
    [
        (LabelRecord(reader="eva@10.0.0.1"), "eva"),
        (LabelRecord(reader="user-xyz@10.0.0.1"), "user-xyz@10.0.0.1"),  # what Slicer calls everybody
        (LabelRecord(reader="@8f3a"), "@8f3a"),  # a browser
        (
            LabelRecord(reader="eva@tom", user="tom"),
            "tom",
        ),  # a client may call itself what it likes, a user who is logged in not
        (LabelRecord(model="slem_brain", model_version="2", automatic=True), "slem_brain 2"),
        (
            LabelRecord(reader="eva@10.0.0.1", model="slem_brain", model_version="2", automatic=True),
            "eva",
        ),  # she has accepted it
        (LabelRecord(), "unknown"),
    ],
)
def test_a_reader_goes_by_the_own_id_where_that_tells_readers_apart(record: LabelRecord, who: str) -> None:
    assert record.who == who
